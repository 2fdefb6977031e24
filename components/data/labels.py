"""Newly labelled rows: checked, stored as numbered deltas, read by the next ingestion.

A delta is a CSV file `<n>-<digest>.csv` below `labels/deltas/`, with a header of the columns that
the pipeline needs. Files are never changed. Rows with the same features are the same row to a
model, so the newest delta that has them says what their label is; a row that says nothing else than
what stands already is not stored again.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.data.column_names import check_columns
from components.data.csv_files import hint_at_header, read_csv, read_header
from components.data.raw_examples import WEIGHT
from components.data.raw_rows import BadRow, ParsedRows, RowParser, SourceRows, required_columns
from contract.errors import DataError
from contract.layout import PipelineLayout
from contract.model_io import label_key
from contract.schema.data import CsvSource
from contract.schema.pipeline import PipelineConfig
from contract.storage import create_exclusively, digest_bytes, exclusive_lock

_DELTA_NAME = re.compile(r"^(\d+)-[0-9a-f]{12}\.csv$")
_REASONS_SHOWN = 5

Answer = str  # labels and weight of a row, to be compared only


@dataclass(frozen=True)
class AddedLabels:
    """What became of a file of newly labelled rows; `delta` is None if there was no news in it.

    `corrected` rows have features that a delta has already, with another label or weight;
    `duplicates` say the same as stands already.
    """

    delta: Path | None
    added: int
    corrected: int
    duplicates: int
    bad: tuple[BadRow, ...]


def list_deltas(layout: PipelineLayout) -> list[Path]:
    """Return a pipeline's deltas, oldest first."""
    return sorted(
        (path for path in layout.label_deltas.glob("*.csv") if _DELTA_NAME.match(path.name)),
        key=_number,
    )


def add_delta(layout: PipelineLayout, config: PipelineConfig, csv_path: Path) -> AddedLabels:
    """Check a CSV file row by row as ingestion does, and store its valid rows of news as a delta.

    A row is compared with earlier deltas and earlier lines of this file; what the base data has is
    not looked at. The file has a header; where the pipeline's own source has none, the file may
    lack it too.

    Raises:
        DataError: If the file is missing, broken or lacks a column, or if no row of it is valid.
            Nothing is stored then.
    """
    parser, count = RowParser(config), Counter[str]()
    bad: list[BadRow] = []
    rows: dict[bytes, list[str]] = {}
    with exclusive_lock(layout.label_deltas / ".lock"):
        deltas = list_deltas(layout)
        standing = {row: answer for _, row, answer in _answers(deltas, config)}
        for source, parsed in _parsed(csv_path, _source_of(csv_path, config), parser):
            bad += parsed.bad
            for position, (row, answer) in zip(parsed.rows, _answered(parsed, config), strict=True):
                said = standing.get(row)
                count["duplicate" if said == answer else "corrected" if said else "added"] += 1
                if said != answer:
                    standing[row] = answer
                    rows[row] = _cells(source.columns, int(position), parser.columns)
        if not count:
            raise DataError(f"{csv_path}: no valid row:\n{_reasons(bad)}")
        content = _as_csv(parser.columns, list(rows.values()))
        delta = _store(layout.label_deltas, deltas, content) if rows else None
    return AddedLabels(delta, count["added"], count["corrected"], count["duplicate"], tuple(bad))


def newest_deltas(deltas: Sequence[Path], config: PipelineConfig) -> dict[bytes, str]:
    """Return the name of the newest delta that has a row, by the digest of its features."""
    return {row: delta.name for delta, row, _ in _answers(deltas, config)}


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
    hint = "" if set(needed) <= set(first) else hint_at_header(path, with_header, needed)
    check_columns(path, first, needed, hint)
    return with_header


def _parsed(
    path: Path, source: CsvSource, parser: RowParser
) -> Iterator[tuple[SourceRows, ParsedRows]]:
    for rows in read_csv(path, source):
        yield rows, parser.parse(rows)


def _answers(
    deltas: Sequence[Path], config: PipelineConfig
) -> Iterator[tuple[Path, bytes, Answer]]:
    for delta in deltas:
        source = delta_source(config, [delta])
        check_columns(delta, read_header(delta, source), required_columns(config))
        for _, parsed in _parsed(delta, source, RowParser(config)):
            for row, answer in _answered(parsed, config):
                yield delta, row, answer


def _answered(parsed: ParsedRows, config: PipelineConfig) -> Iterator[tuple[bytes, Answer]]:
    """Yield the digest of each row's features, and its labels and weight."""
    names = [*map(label_key, config.heads), *([WEIGHT] if config.weight is not None else [])]
    answers = zip(*(parsed.examples[name].to_pylist() for name in names), strict=True)
    yield from zip(parsed.contents, map(str, answers), strict=True)


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
