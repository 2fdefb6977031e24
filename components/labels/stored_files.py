"""A delta and its record on storage: each written whole, the record first."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from contract.records.labels import LabelsRecord
from contract.storage import create_exclusively, digest_bytes


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """Return rows of text as a CSV file with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def store(folder: Path, number: int, content: bytes, record: LabelsRecord) -> LabelsRecord:
    """Store a delta under its number and return its record, completed.

    A delta is complete when its CSV file is there: its record was written before.
    """
    digest = digest_bytes(content).removeprefix("sha256:")[:12]
    path = folder / f"{number}-{digest}.csv"
    record = record.model_copy(update={"delta": path.name})
    record.write(path.with_suffix(".json"))
    create_exclusively(path, content)
    return record
