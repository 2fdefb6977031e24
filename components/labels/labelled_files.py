"""Reading a file of labelled rows: what each valid row says, and why the others are refused."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from components.data.column_names import check_columns
from components.data.csv_files import hint_at_header, read_csv, read_header
from components.data.label_deltas import Answer, answers_in, stored_answers
from components.data.raw_rows import BadRow, ParsedRows, RowParser, SourceRows, required_columns
from components.labels.predicted_rows import REQUEST_ID, ROW, Inputs, Place, PredictedRows
from components.labels.stored_files import as_csv
from contract.layout import PipelineLayout
from contract.schema.data import CsvSource
from contract.schema.pipeline import PipelineConfig

Cells = tuple[str, ...]


@dataclass(frozen=True)
class LabelFile:
    """A CSV file of labels.

    Attributes:
        path: Where it is.
        kept: Inputs of predictions for which the log is not read.
        least_news: The number of rows of news below which none of them is stored.
        is_consensus: Whether its labels are estimated from several people's answers. Such a label
            never replaces one that somebody has added.
    """

    path: Path
    kept: Mapping[Place, Inputs] = field(default_factory=dict)
    least_news: int = 1
    is_consensus: bool = False


@dataclass(frozen=True)
class LabelledRow:
    """A valid row: the digest of its features, its labels and weight, and its cells as text."""

    line: int
    content: bytes
    answer: Answer
    cells: Cells


@dataclass(frozen=True)
class Labelled:
    """What a file says. `columns` are those of the cells."""

    columns: tuple[str, ...]
    rows: tuple[LabelledRow, ...]
    bad: tuple[BadRow, ...]


def labelled_rows(layout: PipelineLayout, config: PipelineConfig, file: LabelFile) -> Labelled:
    """Read a file of labelled rows.

    Rows of the same features with different labels are all refused: it is unknown which of them is
    right. If only their weights are different, each has the mean of them.

    Raises:
        DataError: If the file is missing, broken or lacks a column.
    """
    parser, rows, bad = RowParser(config), list[LabelledRow](), list[BadRow]()
    path = file.path
    for source in _source_rows(layout, config, file):
        parsed = parser.parse(source)
        bad += parsed.bad
        rows += _rows_of(source, parsed, config, parser.columns)
    refused = [*_contradictions(str(path), rows), *_changed_as_text(path, rows, config)]
    lines = {one.row for one in refused}
    kept = [row for row in rows if row.line not in lines]
    if config.weight is not None:
        kept = [*_with_mean_weights(kept, parser.columns.index(config.weight))]
    return Labelled(
        parser.columns, tuple(kept), tuple(sorted([*bad, *refused], key=lambda b: b.row))
    )


def _source_rows(
    layout: PipelineLayout, config: PipelineConfig, file: LabelFile
) -> Iterator[SourceRows]:
    path = file.path
    header = read_header(path, _with_header(config, path))
    if REQUEST_ID in header and not set(config.features) <= set(header):
        labels = [name for name in required_columns(config) if name not in config.features]
        check_columns(path, header, [REQUEST_ID, ROW, *labels])
        batches = [*read_csv(path, _with_header(config, path))]
        yield from PredictedRows(layout, config, batches, file.kept).joined(batches, labels)
    else:
        yield from read_csv(path, _source_of(path, header, config))


def _with_header(config: PipelineConfig, path: Path) -> CsvSource:
    base = config.ingest.source
    if not isinstance(base, CsvSource):
        base = CsvSource(kind="csv", files=(str(path),))
    return base.model_copy(update={"files": (str(path),), "columns": None})


def _source_of(path: Path, first: Sequence[str], config: PipelineConfig) -> CsvSource:
    """Return how to read a file of labels: as the pipeline's own source, with or without header."""
    base, needed = config.ingest.source, required_columns(config)
    is_header = bool(set(first) & set(needed))
    if isinstance(base, CsvSource) and len(base.columns or ()) == len(first) and not is_header:
        return base.model_copy(update={"files": (str(path),)})
    with_header = _with_header(config, path)
    hint = "" if set(needed) <= set(first) else hint_at_header(path, with_header, needed)
    check_columns(path, first, needed, hint)
    return with_header


def _rows_of(
    source: SourceRows, parsed: ParsedRows, config: PipelineConfig, columns: Sequence[str]
) -> Iterator[LabelledRow]:
    separators = {name: feature.separator for name, feature in config.features.items()}
    for position, (content, answer) in zip(parsed.rows, answers_in(parsed, config), strict=True):
        place = int(position)
        cells = tuple(
            _text(source.columns[name][place].as_py(), separators.get(name, " "))
            for name in columns
        )
        yield LabelledRow(int(source.rows[place]), content, answer, cells)


def _text(value: Any, separator: str) -> str:
    """Return a value as the CSV cell that is read as the same value."""
    if value is None:
        return ""
    if isinstance(value, list):
        return separator.join(_text(item, separator) for item in value)
    return value.decode() if isinstance(value, bytes) else str(value)


def _contradictions(file: str, rows: Sequence[LabelledRow]) -> list[BadRow]:
    return [
        BadRow(file, row.line, _reason(row, own), "", row.cells)
        for own in _by_content(rows).values()
        for row in own
        if len({one.answer.labels for one in own}) > 1
    ]


def _with_mean_weights(rows: Sequence[LabelledRow], column: int) -> Iterator[LabelledRow]:
    """Yield the rows; those of equal features have equal weights, as the delta will say them."""
    by_content = _by_content(rows)
    for row in rows:
        weights = [one.answer.weight for one in by_content[row.content]]
        if len({*weights}) == 1:
            yield row
            continue
        text = f"{sum(weights) / len(weights):.6g}"
        answer = replace(row.answer, weight=float(np.float32(text)))
        cells = (*row.cells[:column], text, *row.cells[column + 1 :])
        yield replace(row, answer=answer, cells=cells)


def _by_content(rows: Sequence[LabelledRow]) -> Mapping[bytes, Sequence[LabelledRow]]:
    found: dict[bytes, list[LabelledRow]] = defaultdict(list)
    for row in rows:
        found[row.content].append(row)
    return found


def _changed_as_text(
    path: Path, rows: Sequence[LabelledRow], config: PipelineConfig
) -> list[BadRow]:
    """Return the rows that a delta, which is text, could not say: a space around a word, say."""
    with TemporaryDirectory() as folder:
        written = Path(folder) / path.name
        written.write_bytes(as_csv(required_columns(config), [row.cells for row in rows]))
        read = {content for _, content, _ in stored_answers([written], config)} if rows else set()
    reason = "its features cannot be written as text and read again"
    return [
        BadRow(str(path), row.line, reason, "", row.cells)
        for row in rows
        if row.content not in read
    ]


def _reason(row: LabelledRow, own: Sequence[LabelledRow]) -> str:
    other = next(one for one in own if one.answer.labels != row.answer.labels)
    return f"line {other.line} has the same features and another answer; keep one of them"
