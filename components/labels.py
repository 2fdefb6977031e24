"""Newly labelled rows: checked, stored as numbered deltas, read by the next ingestion.

A delta is a CSV file `<n>-<digest>.csv` below `labels/deltas/`, with a header of the columns that
the pipeline needs. Files are never changed; a row whose key an earlier delta has is not taken
again.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.csv_files import check_columns, read_csv, read_header
from components.raw_rows import BadRow, ParsedRows, RowParser, SourceRows, required_columns
from contract.errors import DataError
from contract.layout import PipelineLayout
from contract.schema.data import CsvSource
from contract.schema.pipeline import PipelineConfig
from contract.storage import create_exclusively, digest_bytes, exclusive_lock

_DELTA_NAME = re.compile(r"^(\d+)-[0-9a-f]{12}\.csv$")
_REASONS_SHOWN = 5


@dataclass(frozen=True)
class AddedLabels:
    """What became of a file of newly labelled rows; `delta` is None if none of them was new."""

    delta: Path | None
    added: int
    duplicates: int
    bad: tuple[BadRow, ...]


def list_deltas(layout: PipelineLayout) -> list[Path]:
    """Return a pipeline's deltas, oldest first."""
    return sorted(
        (path for path in layout.label_deltas.glob("*.csv") if _DELTA_NAME.match(path.name)),
        key=_number,
    )


def add_delta(layout: PipelineLayout, config: PipelineConfig, csv_path: Path) -> AddedLabels:
    """Check a CSV file row by row as ingestion does, and store its valid, new rows as a delta.

    A row counts as known if an earlier delta, or an earlier line of this file, has its key; what
    the base data has is not looked at. The file has a header; where the pipeline's own source
    has none, the file may lack it too.

    Raises:
        DataError: If the file is missing, broken or lacks a column, or if no row of it is valid.
            Nothing is stored then.
    """
    parser, duplicates = RowParser(config), 0
    bad: list[BadRow] = []
    rows: list[list[str]] = []
    with exclusive_lock(layout.label_deltas / ".lock"):
        deltas = list_deltas(layout)
        seen = set(_keys(deltas, config))
        for source, parsed in _parsed(csv_path, _source_of(csv_path, config), parser):
            bad += parsed.bad
            for position, key in zip(parsed.rows.tolist(), parsed.keys, strict=True):
                if key in seen:
                    duplicates += 1
                    continue
                seen.add(key)
                rows.append(_cells(source.columns, position, parser.columns))
        if not rows and not duplicates:
            raise DataError(f"{csv_path}: no valid row:\n{_reasons(bad)}")
        delta = _store(layout.label_deltas, deltas, _as_csv(parser.columns, rows)) if rows else None
    return AddedLabels(delta, len(rows), duplicates, tuple(bad))


def delta_source(config: PipelineConfig, deltas: Sequence[Path]) -> CsvSource:
    """Return the source that reads stored deltas."""
    source = config.ingest.source
    is_stripped = source.is_stripped if isinstance(source, CsvSource) else True
    return CsvSource(kind="csv", files=tuple(str(path) for path in deltas), is_stripped=is_stripped)


# --- inside -------------------------------------------------------------------------------------


def _source_of(path: Path, config: PipelineConfig) -> CsvSource:
    """Return how to read a file of labels: as the pipeline's own source, with or without header."""
    base = config.ingest.source
    if not isinstance(base, CsvSource):
        base = CsvSource(kind="csv", files=(str(path),))
    with_header = base.model_copy(update={"files": (str(path),), "columns": None})
    first = read_header(path, with_header)
    needed = required_columns(config)
    if base.columns and not set(first) & set(needed) and len(first) == len(base.columns):
        return base.model_copy(update={"files": (str(path),)})
    check_columns(path, first, needed)
    return with_header


def _parsed(
    path: Path, source: CsvSource, parser: RowParser
) -> Iterator[tuple[SourceRows, ParsedRows]]:
    for rows in read_csv(path, source):
        yield rows, parser.parse(rows)


def _keys(deltas: Sequence[Path], config: PipelineConfig) -> Iterator[bytes]:
    for delta in deltas:
        source = delta_source(config, [delta])
        check_columns(delta, read_header(delta, source), required_columns(config))
        for _, parsed in _parsed(delta, source, RowParser(config)):
            yield from parsed.keys


def _cells(batch: pa.RecordBatch, position: int, columns: Sequence[str]) -> list[str]:
    values: list[Any] = [batch[name][position].as_py() for name in columns]
    return ["" if value is None else value for value in values]


def _as_csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _store(folder: Path, deltas: Sequence[Path], content: bytes) -> Path:
    number = _number(deltas[-1]) + 1 if deltas else 1
    digest = digest_bytes(content).removeprefix("sha256:")[:12]
    path = folder / f"{number}-{digest}.csv"
    create_exclusively(path, content)
    return path


def _number(delta: Path) -> int:
    return int(delta.name.partition("-")[0])


def _reasons(bad: Sequence[BadRow]) -> str:
    lines = [f"  line {row.row}: {row.reason} {row.found}".rstrip() for row in bad[:_REASONS_SHOWN]]
    if len(bad) > _REASONS_SHOWN:
        lines.append(f"  and {len(bad) - _REASONS_SHOWN:,} more rows")
    return "\n".join(lines)
