"""CSV files read in batches of text columns; what a row lacks or has too much is told, not lost."""

import codecs
import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.data.column_names import check_repeats
from components.data.csv_lines import CsvLines, can_be_plain, plain_columns
from components.data.raw_rows import BadRow, SourceRows
from components.data.text_files import (
    KEEP_BYTES,
    encoding_hint,
    has_bad_bytes,
    open_bytes,
    open_text,
    shown,
)
from contract.errors import DataError
from contract.schema.data import CsvSource

if TYPE_CHECKING:
    import _csv

BATCH_ROWS = 8192
_LARGEST_CELL = 64 << 20  # a longer one is a quote that was never closed
_LONGEST_LINE = 1 << 20  # that is looked at for hints
_LINES_LOOKED_AT = 20  # for a header, where line 1 is none
_SHOWN = 80
_DELIMITERS = ",;\t|"
_NUMBER = re.compile(r"[+-]?[0-9]*[.,]?[0-9]+")
_EXCELS_LINE = re.compile(r'"?sep=(?P<delimiter>.)"?\s*', re.IGNORECASE)


@dataclass(frozen=True)
class Header:
    """Where a file's rows begin: the names of its columns, and how many lines are above the rows.

    A column without a name has the name ""; its cells are left out.
    """

    names: tuple[str, ...]
    lines: int


def read_header(path: Path, source: CsvSource) -> tuple[str, ...]:
    """Return the column names of a file: its first row, or the config's where it has no header.

    Raises:
        DataError: If the file is missing, empty, unreadable or in another encoding, or if a name
            repeats.
    """
    return tuple(name for name in _header(path, source).names if name)


def first_row(path: Path, source: CsvSource) -> list[str]:
    """Return the cells of a file's first row, header or not; none if it is empty or no CSV."""
    with open_text(path, source.encoding) as file:
        lines, _ = _lines(path, file, source)
        try:
            return [shown(cell.strip()) for cell in next(_reader(lines, source), [])]
        except csv.Error:
            return []


def read_csv(path: Path, source: CsvSource) -> Iterator[SourceRows]:
    """Yield the rows of a file as text columns, null where a cell means 'no value'.

    Rows with too many or too few cells, broken quotes or bytes that are not UTF-8 come as bad rows.

    Raises:
        DataError: If the file is missing, empty, truncated or has no rows.
    """
    header = _header(path, source)
    batches = _plain_batches if _is_quick(path, header, source) else _exact_batches
    count = 0
    for batch in batches(path, header, source):
        count += len(batch.rows) + len(batch.bad)
        yield batch
    if not count:
        raise DataError(f"{path}: no rows; expected some below the header")


def first_lines(path: Path, source: CsvSource, count: int) -> list[str]:
    """Return a file's first lines as they are, without their ends, for hints."""
    with open_text(path, source.encoding) as file:
        lines = [file.readline(_LONGEST_LINE) for _ in range(count)]
    return [shown(line.rstrip("\r\n")) for line in lines if line]


def hint_at_header(path: Path, source: CsvSource, expected: Sequence[str]) -> str:
    """Return what explains that a file lacks expected columns: its first line, and what fits it."""
    if source.columns is not None:
        return ""
    lines = first_lines(path, source, _LINES_LOOKED_AT)
    place = source.skip_lines
    first = lines[place] if place < len(lines) else ""
    told = f"Line {place + 1}, read with the delimiter {source.delimiter!r}, is {_short(first)}. "
    for number, line in enumerate(lines):
        for delimiter in (source.delimiter, *_DELIMITERS):
            if set(expected) <= set(_cells(line, delimiter)):
                return told + _settings(source, number, delimiter)
    if _looks_like_a_row(_cells(first, source.delimiter)):
        return f"{told}Where a file has no header, name its columns in ingest.source.columns."
    return f"{told}Fix the file, or name its columns under 'features' and 'heads'."


# --- inside -------------------------------------------------------------------------------------

_Record = tuple[int, list[str], str]  # line number, cells, what is wrong with them ("" if nothing)


def _is_quick(path: Path, header: Header, source: CsvSource) -> bool:
    """Tell whether a file's bytes can be cut to lines, as those of UTF-8 can."""
    if not can_be_plain(len(header.names), source.delimiter):
        return False
    with open_text(path, source.encoding) as file:
        return codecs.lookup(file.encoding).name in ("utf-8", "utf-8-sig")


def _exact_batches(path: Path, header: Header, source: CsvSource) -> Iterator[SourceRows]:
    with open_text(path, source.encoding) as file:
        reader = _reader(_lines(path, file, source)[0], source)
        if source.columns is None:
            next(reader)
        records = _records(path, reader, header, source)
        while batch := list(islice(records, BATCH_ROWS)):
            yield _to_columns(path, header.names, batch, source)


def _plain_batches(path: Path, header: Header, source: CsvSource) -> Iterator[SourceRows]:
    """Yield the batches that `_exact_batches` yields; those of plain lines are read by Arrow."""
    width = len(header.names)
    with open_bytes(path) as file:
        lines = CsvLines(file, skip=codecs.BOM_UTF8)
        text = _decoded(lines)
        for _ in range(header.lines):
            next(text)
        if source.columns is None:
            next(_reader(text, source))
        while not lines.at_end:
            block = lines.take(BATCH_ROWS)
            columns = plain_columns(block, width, source.delimiter)
            if columns is not None:
                first = lines.lines_read + 1
                lines.skip(block)
                rows = np.arange(first, first + len(columns[0]))
                yield _cleaned(path, header.names, rows, columns, source)
                continue
            here = replace(header, lines=lines.lines_read)
            records = _records(path, _reader(text, source), here, source)
            while batch := list(islice(records, BATCH_ROWS)):
                yield _to_columns(path, header.names, batch, source)
                if not lines.at_end:
                    break


def _decoded(lines: CsvLines) -> Iterator[str]:
    for line in lines:
        yield line.decode("utf-8", KEEP_BYTES)


def _header(path: Path, source: CsvSource) -> Header:
    with open_text(path, source.encoding) as file:
        lines, above = _lines(path, file, source)
        try:
            first = next(_reader(lines, source), None)
        except csv.Error as error:
            raise DataError(
                f"{path}: line {above + 1} is not CSV: {error}; expected rows{_place(source)}"
            ) from error
    if first is None:
        raise DataError(f"{path}: empty; expected rows{_place(source)}")
    names = source.columns or tuple(name.strip() for name in first)
    if source.columns is None and (bad := [name for name in names if has_bad_bytes(name)]):
        hint = "; ".join(filter(None, (encoding_hint(bad[0]), "set ingest.source.encoding")))
        raise DataError(
            f"{path}: line {above + 1}, the header, is not {_name(source.encoding)}: column "
            f"'{shown(bad[0])}': {hint}"
        )
    check_repeats(path, names)
    return Header(names, above)


def _lines(path: Path, file: TextIO, source: CsvSource) -> tuple[Iterator[str], int]:
    """Return the lines from the header on, and how many are above it.

    The line by which Excel is told the delimiter (`sep=;`) is above it.
    """
    for _ in range(source.skip_lines):
        file.readline()
    start = file.readline()
    if not (said := _EXCELS_LINE.fullmatch(start)):
        return chain([start] if start else [], file), source.skip_lines
    if said["delimiter"] != source.delimiter:
        raise DataError(
            f"{path}: line {source.skip_lines + 1} says that the delimiter is "
            f"{said['delimiter']!r}, but the file is read with {source.delimiter!r}; set "
            "ingest.source.delimiter"
        )
    return file, source.skip_lines + 1


def _reader(lines: Iterator[str], source: CsvSource) -> "_csv.Reader":
    csv.field_size_limit(_LARGEST_CELL)
    return csv.reader(
        lines, delimiter=source.delimiter, skipinitialspace=source.is_stripped, strict=True
    )


def _records(
    path: Path, reader: "_csv.Reader", header: Header, source: CsvSource
) -> Iterator[_Record]:
    """Yield rows; the last one, cut short and without its line end, means a truncated file."""
    last: _Record | None = None
    width = len(header.names)
    while True:
        line = header.lines + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if "unexpected end of data" in str(error) or "field larger" in str(error):
                raise DataError(
                    f"{path}: truncated, or a quote that opens at or after line {line} is never "
                    f"closed ({error})"
                ) from error
            yield (line, [], f"broken quotes ({error})")
            continue
        if not cells:
            continue
        last = (line, cells, _problem(cells, width, source.delimiter))
        yield last
    if last is not None and 0 < len(last[1]) < width and not _ends_with_newline(path, source):
        raise DataError(
            f"{path}: truncated: the last line, {last[0]}, has {len(last[1])} of {width} cells "
            "and no line end"
        )


def _problem(cells: list[str], width: int, delimiter: str) -> str:
    if len(cells) == width:
        return ""
    problem = f"{len(cells)} cells, expected {width}"
    if len(cells) == width + 1 and not cells[-1].strip():
        return f"{problem}: the line ends in a delimiter, the header does not"
    if len(cells) == 1 and (other := likely_delimiter(cells[0], width, delimiter)):
        return f"{problem}, as there are with the delimiter {other!r}"
    return problem


def likely_delimiter(line: str, width: int, current: str) -> str:
    """Return the delimiter that would cut a line into `width` cells, or "" if none would."""
    others = (one for one in _DELIMITERS if one != current)
    return next((one for one in others if width > 1 and line.count(one) == width - 1), "")


def _ends_with_newline(path: Path, source: CsvSource) -> bool:
    with open_text(path, source.encoding) as file:
        tail = ""
        while block := file.read(1 << 20):
            tail = block[-1]
    return tail in ("\n", "\r")


def _to_columns(
    path: Path, names: tuple[str, ...], batch: list[_Record], source: CsvSource
) -> SourceRows:
    bad = [record for record in batch if record[2]]
    good = [record for record in batch if not record[2]]
    try:
        columns = _text_columns([cells for _, cells, _ in good], len(names))
    except UnicodeEncodeError:
        problem = f"not {_name(source.encoding)}"
        bad += [(line, cells, problem) for line, cells, _ in good if _is_spoiled(cells)]
        good = [record for record in good if not _is_spoiled(record[1])]
        columns = _text_columns([cells for _, cells, _ in good], len(names))
    rows = np.array([line for line, _, _ in good], np.int64)
    bad_rows = tuple(_bad_row(path, record) for record in sorted(bad))
    return replace(_cleaned(path, names, rows, columns, source), bad=bad_rows)


def _cleaned(
    path: Path,
    names: tuple[str, ...],
    rows: npt.NDArray[np.int64],
    columns: list[pa.Array],
    source: CsvSource,
) -> SourceRows:
    """Return rows of all columns, without those that have no name."""
    cleaned = {n: _clean(c, source) for n, c in zip(names, columns, strict=True) if n}
    return SourceRows(str(path), rows, pa.RecordBatch.from_pydict(cleaned))


def _bad_row(path: Path, record: _Record) -> BadRow:
    line, cells, problem = record
    found = next((_spoiled(cell) for cell in cells if has_bad_bytes(cell)), "")
    return BadRow(str(path), line, f"row: {problem}", found, [shown(cell) for cell in cells])


def _spoiled(cell: str) -> str:
    """Return a cell with bad bytes and, in brackets, the likely way out."""
    hint = encoding_hint(cell)
    text = shown(cell if len(cell) <= _SHOWN else f"{cell[:_SHOWN]}...")
    return f"'{text}'" + (f" ({hint}; see ingest.source.encoding)" if hint else "")


def _text_columns(rows: list[list[str]], width: int) -> list[pa.Array]:
    columns = zip(*rows, strict=True) if rows else [()] * width
    return [pa.array(column, pa.string()) for column in columns]


def _clean(column: pa.Array, source: CsvSource) -> pa.Array:
    text = pc.utf8_trim_whitespace(column) if source.is_stripped and _may_trim(column) else column
    is_missing = pc.is_in(text, value_set=pa.array(source.missing, pa.string()))
    return pc.if_else(is_missing, None, text) if pc.any(is_missing).as_py() else text


def _may_trim(column: pa.Array) -> bool:
    """Tell whether there may be white space: ASCII up to the space, or what is not ASCII."""
    _, offsets, data = column.buffers()
    if data is None or not len(column):
        return False
    bounds = np.frombuffer(offsets, np.int32)[column.offset :]
    there = np.frombuffer(data, np.uint8)[bounds[0] : bounds[len(column)]]
    return bool(len(there)) and bool((there.min() <= ord(" ")) or (there.max() > ord("~")))


def _is_spoiled(cells: list[str]) -> bool:
    return any(map(has_bad_bytes, cells))


def _settings(source: CsvSource, number: int, delimiter: str) -> str:
    """Return which keys of the config make a line the header."""
    keys = []
    if delimiter != source.delimiter:
        keys.append(f"ingest.source.delimiter: {json.dumps(delimiter)}")
    if number != source.skip_lines:
        keys.append(f"ingest.source.skip_lines: {number}")
    return f"Line {number + 1} has these columns: set {' and '.join(keys)}."


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _looks_like_a_row(cells: Sequence[str]) -> bool:
    return any(_NUMBER.fullmatch(cell) for cell in cells)


def _short(line: str) -> str:
    return repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}...")


def _name(encoding: str) -> str:
    return "UTF-8" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def _place(source: CsvSource) -> str:
    return "" if source.columns else " below a header line"
