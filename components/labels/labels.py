"""Adding, listing and announcing newly labelled rows."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.data.label_deltas import (
    Answer,
    delta_number,
    list_deltas,
    stored_answers,
)
from components.data.raw_rows import BadRow
from components.labels.labelled_files import Cells, LabelFile, Labelled, labelled_rows
from components.labels.stored_files import as_csv, store
from contract.errors import DataError
from contract.layout import PipelineLayout
from contract.records.labels import BadLabel, LabelsRecord, labels_asset
from contract.schema.pipeline import PipelineConfig
from contract.storage import exclusive_lock

Announcer = Callable[[str, Mapping[str, Any]], None]  # of an asset's URI and what the event carries

_REASONS_SHOWN = 5


def add_labels(
    layout: PipelineLayout, config: PipelineConfig, file: LabelFile, author: str, now: datetime
) -> LabelsRecord:
    """Check a CSV file row by row as ingestion does, and store its valid rows of news as a delta.

    A row is compared with earlier deltas; what the base data has is not looked at. The file has
    the pipeline's columns, or `request_id` and `row` of predictions whose inputs were logged, and
    the labels. It has a header; where the pipeline's own source has none, it may lack it too.
    Fewer rows of news than the file's `least_news` are counted and not stored.

    Raises:
        DataError: If the file is missing, broken or lacks a column, or if no row of it is valid.
            Nothing is stored then.
    """
    found = labelled_rows(layout, config, file)
    with exclusive_lock(layout.label_deltas / ".lock"):
        deltas = list_deltas(layout)
        known = {row: answer for _, row, answer in stored_answers(deltas, config)}
        count, news = _news(found, known)
        if not count:
            raise DataError(f"{file.path}: no valid row:\n{_reasons(found.bad)}")
        number = delta_number(deltas[-1]) + 1 if deltas else 1
        record = LabelsRecord(
            pipeline=layout.pipeline,
            added=count["added"],
            corrected=count["corrected"],
            duplicates=count["duplicate"],
            bad=tuple(BadLabel(row=b.row, reason=b.reason, found=b.found) for b in found.bad),
            author=author,
            added_at=now,
        )
        if len(news) < file.least_news:
            return record
        return store(layout.label_deltas, number, as_csv(found.columns, news), record)


def list_labels(layout: PipelineLayout, config: PipelineConfig) -> list[LabelsRecord]:
    """Return what became of each delta, oldest first."""
    return [_record_of(layout, config, delta) for delta in list_deltas(layout)]


def announce(record: LabelsRecord, announcer: Announcer) -> bool:
    """Announce the rows of a delta; return whether there were any."""
    if record.delta:
        announcer(labels_asset(record.pipeline), record.event)
    return bool(record.delta)


def _news(
    found: Labelled, known: Mapping[bytes, Answer]
) -> tuple[Counter[str], list[tuple[str, ...]]]:
    """Count what the rows are, and return the cells of those that say something new."""
    count, standing, news = Counter[str](), dict(known), list[Cells]()
    for row in found.rows:
        said = standing.get(row.content)
        count["duplicate" if said == row.answer else "corrected" if said else "added"] += 1
        if said != row.answer:
            standing[row.content] = row.answer
            news.append(row.cells)
    return count, news


def _record_of(layout: PipelineLayout, config: PipelineConfig, delta: Path) -> LabelsRecord:
    """Return a delta's record; one of 0.1.0 has none, so that its rows are counted."""
    path = delta.with_suffix(".json")
    if path.exists():
        return LabelsRecord.read(path)
    rows = sum(1 for _ in stored_answers([delta], config))
    return LabelsRecord(
        pipeline=layout.pipeline,
        delta=delta.name,
        added=rows,
        corrected=0,
        duplicates=0,
        added_at=datetime.fromtimestamp(delta.stat().st_mtime, UTC),
    )


def _reasons(bad: Sequence[BadRow]) -> str:
    lines = [f"  line {row.row}: {row.reason} {row.found}".rstrip() for row in bad[:_REASONS_SHOWN]]
    if len(bad) > _REASONS_SHOWN:
        lines.append(f"  and {len(bad) - _REASONS_SHOWN:,} more rows")
    return "\n".join(lines)
