"""The lines of a CSV file, as bytes: many at once while they are plain, one by one where not.

Lines are plain where Arrow's reader and Python's `csv` find the same cells: UTF-8 without quotes
and NUL, no line empty, ends of lines all alike, each line with as many cells as the header. What
else there is (also a file that is no CSV) is for the exact reader to read, and to tell.
"""

import codecs
import re
from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.csv

_BLOCK_BYTES = 1 << 20
_LARGEST_BLOCK = 64 << 20
_LINE_END = re.compile(rb"\r\n?|\n")


class CsvLines:
    """Lines of a file, without the bytes `skip` if it begins with them."""

    def __init__(self, file: IO[bytes], skip: bytes = b"") -> None:
        self._file = file
        self._held = file.read(len(skip)).removeprefix(skip)
        self._place = 0
        self._is_whole = False  # the file was read to its end
        self.lines_read = 0

    @property
    def at_end(self) -> bool:
        """Whether there are no more lines."""
        return self._place == len(self._held) and not self._read()

    def take(self, count: int) -> bytes:
        """Return the next lines, at most `count`; nothing where these are very long."""
        while self._count_ends() < count and len(self._held) - self._place < _LARGEST_BLOCK:
            if not self._read():
                return self._held[self._place :]
        there = np.frombuffer(self._held, np.uint8, offset=self._place)
        ends = np.flatnonzero(there == ord("\n"))
        return self._held[self._place :][: ends[count - 1] + 1] if len(ends) >= count else b""

    def skip(self, block: bytes) -> None:
        """Leave lines behind that `take` returned."""
        self._place += len(block)
        self.lines_read += block.count(b"\n") + (not block.endswith(b"\n"))

    def __iter__(self) -> Iterator[bytes]:
        """Yield single lines with their ends, as a text file without translation has them."""
        while not self.at_end:
            found = _LINE_END.search(self._held, self._place)
            while found is None or found.end() == len(self._held):  # \r may go on with \n
                if not self._read():
                    break
                found = _LINE_END.search(self._held, self._place)
            stop = found.end() if found else len(self._held)
            line, self._place = self._held[self._place : stop], stop
            self.lines_read += 1
            yield line

    def _read(self) -> bool:
        if self._is_whole:
            return False
        held = self._held[self._place :]
        more = self._file.read(max(_BLOCK_BYTES, len(held)))  # twice as much: a line may be long
        if not more:
            self._is_whole = True
            return False
        self._held, self._place = held + more, 0
        return True

    def _count_ends(self) -> int:
        return self._held.count(b"\n", self._place)


def plain_columns(block: bytes, width: int, delimiter: str) -> list[pa.Array] | None:
    """Return the cells of plain lines as text columns, or None if the lines are not plain."""
    if not _may_be_plain(block):
        return None
    names = [str(place) for place in range(width)]
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(block),
            pa.csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
            pa.csv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False),
            pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid:
        return None
    batches = table.to_batches()
    return batches[0].columns if len(batches) == 1 else None


def can_be_plain(width: int, delimiter: str) -> bool:
    """Tell whether lines of so many cells may be plain at all."""
    return width > 1 and len(delimiter.encode()) == 1 and delimiter not in ' "\r\n\0'


def _may_be_plain(block: bytes) -> bool:
    if not block or len(block) > _LARGEST_BLOCK or block.startswith(codecs.BOM_UTF8):
        return False
    if any(one in block for one in (b'"', b"\0", b"\n\n", b"\n\r")):
        return False
    if block.startswith((b"\n", b"\r")):  # Arrow takes an empty line for a row
        return False
    returns = block.count(b"\r")
    return not returns or returns == block.count(b"\r\n") == block.count(b"\n")
