"""Adding, listing and announcing newly labelled rows."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
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
    Fewer rows of news than the file's `least_news` are counted and not stored. A consensus leaves
    the labels that somebody has added as they are.

    Raises:
        DataError: If the file is missing, broken or lacks a column, or if no row of it is valid.
            Nothing is stored then.
    """
    found = labelled_rows(layout, config, file)
    with exclusive_lock(layout.label_deltas / ".lock"):
        deltas = list_deltas(layout)
        known = {row: (answer, delta) for delta, row, answer in stored_answers(deltas, config)}
        fixed = {*deltas} - _by_consensus(deltas) if file.is_consensus else set()
        count, news = _news(found, known, fixed)
        if not count:
            raise DataError(f"{file.path}: no valid row:\n{_reasons(found.bad)}")
        number = delta_number(deltas[-1]) + 1 if deltas else 1
        record = LabelsRecord(
            pipeline=layout.pipeline,
            added=count["added"],
            corrected=count["corrected"],
            duplicates=count["duplicate"],
            kept=count["kept"],
            bad=tuple(BadLabel(row=b.row, reason=b.reason, found=_found(b)) for b in found.bad),
            is_consensus=file.is_consensus,
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
    found: Labelled, known: Mapping[bytes, tuple[Answer, Path]], fixed: Set[Path]
) -> tuple[Counter[str], list[Cells]]:
    """Count what the rows are, and return the cells of those that say something new.

    Args:
        found: What the file says.
        known: What is known of a row, and the delta that says so.
        fixed: Deltas whose rows stay as they are.
    """
    count, news, seen = Counter[str](), list[Cells](), dict[bytes, Answer]()
    for row in found.rows:
        known_answer, delta = known.get(row.content, (None, None))
        said = seen.get(row.content, known_answer)
        if said == row.answer:
            count["duplicate"] += 1
        elif delta in fixed:
            count["kept"] += 1
        else:
            count["corrected" if said else "added"] += 1
            seen[row.content] = row.answer
            news.append(row.cells)
    return count, news


def _by_consensus(deltas: Iterable[Path]) -> set[Path]:
    """Return the deltas whose labels are a consensus."""
    return {one for one in deltas if (record := _stored_record(one)) and record.is_consensus}


def _record_of(layout: PipelineLayout, config: PipelineConfig, delta: Path) -> LabelsRecord:
    """Return a delta's record; one of 0.1.0 has none, so that its rows are counted."""
    if record := _stored_record(delta):
        return record
    rows = sum(1 for _ in stored_answers([delta], config))
    return LabelsRecord(
        pipeline=layout.pipeline,
        delta=delta.name,
        added=rows,
        corrected=0,
        duplicates=0,
        added_at=datetime.fromtimestamp(delta.stat().st_mtime, UTC),
    )


def _stored_record(delta: Path) -> LabelsRecord | None:
    path = delta.with_suffix(".json")
    return LabelsRecord.read(path) if path.exists() else None


def _found(row: BadRow) -> str:
    return "" if row.found == "None" else row.found  # an empty cell: the reason says it


def _reasons(bad: Sequence[BadRow]) -> str:
    lines = [
        f"  line {row.row}: {row.reason} {_found(row)}".rstrip() for row in bad[:_REASONS_SHOWN]
    ]
    if len(bad) > _REASONS_SHOWN:
        lines.append(f"  and {len(bad) - _REASONS_SHOWN:,} more rows")
    return "\n".join(lines)
