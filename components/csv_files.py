"""CSV files read in batches of text columns; what a row lacks or has too much is told, not lost."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.raw_rows import BadRow, SourceRows
from contract.errors import DataError, did_you_mean
from contract.schema.data import CsvSource

if TYPE_CHECKING:
    import _csv

BATCH_ROWS = 8192
_LARGEST_CELL = 64 << 20  # a longer one is a quote that was never closed


def read_header(path: Path, source: CsvSource) -> tuple[str, ...]:
    """Return the column names of a file: its first row, or the config's where it has no header.

    Raises:
        DataError: If the file is missing, empty or unreadable, or a name repeats.
    """
    with _opened(path) as file:
        try:
            first = next(_reader(file, source), None)
        except csv.Error as error:
            raise DataError(
                f"{path}: line 1 is not CSV: {error}; expected rows{_header_hint(source)}"
            ) from error
        if first is None:
            raise DataError(f"{path}: empty; expected rows{_header_hint(source)}")
    names = source.columns or tuple(name.strip() for name in first)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: column names repeat: {', '.join(repeated)}")
    return names


def check_columns(path: Path, found: Sequence[str], expected: Sequence[str]) -> None:
    """Raise DataError if a file lacks an expected column, with the nearest name that it has."""
    missing = [name for name in expected if name not in found]
    if not missing:
        return
    new = [name for name in found if name not in expected]
    hints = ", ".join(f"'{name}'{did_you_mean(name, new)}" for name in missing)
    extra = f"; columns that the config does not name: {', '.join(new)}" if new else ""
    raise DataError(
        f"{path}: missing columns: {hints}{extra}. Mend the file, or name its columns under "
        "'features' and 'heads' in pipeline.yaml."
    )


def read_csv(path: Path, source: CsvSource) -> Iterator[SourceRows]:
    """Yield the rows of a file as text columns, null where a cell means 'no value'.

    Rows with too many or too few cells, broken quotes or bytes that are not UTF-8 come as bad rows.

    Raises:
        DataError: If the file is missing, empty, truncated or has no rows.
    """
    names = read_header(path, source)
    count = 0
    with _opened(path) as file:
        reader = _reader(file, source)
        if source.columns is None:
            next(reader)
        records = _records(path, reader, len(names))
        while batch := list(islice(records, BATCH_ROWS)):
            count += len(batch)
            yield _to_columns(path, names, batch, source)
    if not count:
        raise DataError(f"{path}: no rows; expected some below the header")


# --- inside -------------------------------------------------------------------------------------

_Record = tuple[int, list[str], str]  # line number, cells, what is wrong with them ("" if nothing)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open a plain or gzip file; bytes that are not UTF-8 survive as lone surrogates."""
    try:
        with path.open("rb") as raw:
            is_gzip = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            binary = gzip.GzipFile(fileobj=raw) if is_gzip else raw
            with io.TextIOWrapper(
                binary,  # type: ignore[arg-type]
                encoding="utf-8-sig",
                errors="surrogateescape",
                newline="",
            ) as file:
                yield file
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: truncated or damaged gzip file: {error}") from error


def _reader(file: TextIO, source: CsvSource) -> "_csv.Reader":
    csv.field_size_limit(_LARGEST_CELL)
    return csv.reader(
        file, delimiter=source.delimiter, skipinitialspace=source.is_stripped, strict=True
    )


def _records(path: Path, reader: "_csv.Reader", width: int) -> Iterator[_Record]:
    """Yield rows; the last one, cut short and without its line end, means a truncated file."""
    last: _Record | None = None
    while True:
        line = reader.line_num + 1
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
        last = (line, cells, _problem(cells, width))
        yield last
    if last is not None and 0 < len(last[1]) < width and not _ends_with_newline(path):
        raise DataError(
            f"{path}: truncated: the last line, {last[0]}, has {len(last[1])} of {width} cells "
            "and no line end"
        )


def _problem(cells: list[str], width: int) -> str:
    return "" if len(cells) == width else f"{len(cells)} cells, expected {width}"


def _ends_with_newline(path: Path) -> bool:
    with _opened(path) as file:
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
        columns = _text_columns([cells for _, cells, _ in good], names)
    except UnicodeEncodeError:
        bad += [(line, c, "not UTF-8") for line, c, _ in good if not _is_utf8(c)]
        good = [record for record in good if _is_utf8(record[1])]
        columns = _text_columns([cells for _, cells, _ in good], names)
    cleaned = [_clean(column, source) for column in columns]
    rows = np.array([line for line, _, _ in good], np.int64)
    return SourceRows(
        str(path),
        rows,
        pa.RecordBatch.from_arrays(cleaned, list(names)),
        tuple(BadRow(str(path), line, _generic(problem), "", c) for line, c, problem in bad),
    )


def _text_columns(rows: list[list[str]], names: tuple[str, ...]) -> list[pa.Array]:
    if not rows:
        return [pa.array([], pa.string()) for _ in names]
    return [pa.array(cells, pa.string()) for cells in zip(*rows, strict=True)]


def _clean(column: pa.Array, source: CsvSource) -> pa.Array:
    text = pc.utf8_trim_whitespace(column) if source.is_stripped else column
    is_missing = pc.is_in(text, value_set=pa.array(source.missing, pa.string()))
    return pc.if_else(is_missing, None, text)


def _is_utf8(cells: list[str]) -> bool:
    return all(cell.isascii() or not any("\udc80" <= c <= "\udcff" for c in cell) for cell in cells)


def _generic(problem: str) -> str:
    """Return a reason that rows share; the cells themselves are in the row's content."""
    return f"row: {problem}"


def _header_hint(source: CsvSource) -> str:
    return "" if source.columns else " below a header line"
