"""JSON lines: text files with one JSON object a line."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from components.data.raw_rows import BadRow, SourceRows
from components.data.record_columns import names_of, record_batch
from components.data.source_columns import partition_columns, with_partitions
from components.data.text_files import has_bad_bytes, open_text, shown
from components.ingest.sources.source import check_has_rows, find_files
from contract.errors import DataError
from contract.schema.data_sources import JsonLinesSource

_BATCH_ROWS = 8192
_LINES_LOOKED_AT = 1000
_LONGEST_LINE = 64 << 20
_SHOWN = 80


class _RowError(Exception):
    """A line is not one JSON object."""


_Line = tuple[int, str, dict[str, Any] | str]  # number, text, the object or what is wrong


def files(source: JsonLinesSource) -> list[Path]:
    """Return the files that the source's paths and globs match."""
    return find_files(source.files)


def columns(source: JsonLinesSource, file: Path) -> tuple[str, ...]:
    """Return the config's names, or the keys of the first lines, then those that folders say."""
    return tuple(dict.fromkeys([*_names(source, file), *partition_columns(file)]))


def read(source: JsonLinesSource, file: Path) -> Iterator[SourceRows]:
    """Yield rows, null where an object lacks a key; lines that are no object are bad rows."""
    names, count = _names(source, file), 0
    lines = _lines(file)
    while block := list(islice(lines, _BATCH_ROWS)):
        good = [(number, found) for number, _, found in block if isinstance(found, dict)]
        bad = tuple(_bad(file, line) for line in block if isinstance(line[2], str))
        batch = with_partitions(record_batch([found for _, found in good], names), file)
        yield SourceRows(str(file), np.array([n for n, _ in good], np.int64), batch, bad)
        count += len(block)
    check_has_rows(file, count)


def size_bytes(source: JsonLinesSource, file: Path) -> int:  # noqa: ARG001
    """Return the file's size."""
    return file.stat().st_size


# --- inside -------------------------------------------------------------------------------------


def _names(source: JsonLinesSource, file: Path) -> tuple[str, ...]:
    if source.columns is not None:
        return source.columns
    lines = list(islice(_lines(file), _LINES_LOOKED_AT))
    names = names_of(found for _, _, found in lines if isinstance(found, dict))
    if lines and not names:
        number, _, problem = lines[0]
        raise DataError(f"{file}: line {number}: {problem}; expected one JSON object a line")
    return names


def _lines(file: Path) -> Iterator[_Line]:
    """Yield the lines that are not empty, each with its object or with what is wrong."""
    with open_text(file) as text:
        number, last = 0, "\n"
        while line := text.readline(_LONGEST_LINE):
            number, last = number + 1, line
            if len(line) == _LONGEST_LINE and not line.endswith("\n"):
                raise DataError(
                    f"{file}: line {number} is longer than {_LONGEST_LINE:,} characters; expected "
                    "one JSON object a line"
                )
            if line.strip():
                yield (number, line, _object(line))
        if not last.endswith(("\n", "\r")) and isinstance(found := _object(last), str):
            raise DataError(
                f"{file}: truncated: the last line, {number}, has no line end and is {found}"
            )


def _object(line: str) -> dict[str, Any] | str:
    if has_bad_bytes(line):
        return "not UTF-8"
    try:
        found = json.loads(line, object_pairs_hook=_without_repeats)
    except _RowError as error:
        return str(error)
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        return f"not JSON ({error})"
    if "\\u" in line and has_bad_bytes(json.dumps(found, ensure_ascii=False)):
        return "not text: half of a surrogate pair"
    return found if isinstance(found, dict) else f"a JSON {_KINDS[type(found)]}, not an object"


_KINDS = {
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "truth value",
    type(None): "null",
}


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise _RowError(f"not usable: the key '{repeated}' stands twice")
    return found


def _bad(file: Path, line: _Line) -> BadRow:
    number, text, problem = line
    text = shown(text.strip())
    found = repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
    reason = problem if isinstance(problem, str) else ""
    # The place within the line differs from row to row; rows are counted by their reason.
    return BadRow(str(file), number, f"row: {reason.partition(' (')[0]}", found, text)
