"""From what workers wrote to an artifact: final names of shards, and one file of bad rows."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.data.tfrecord_shards import name_shards
from components.ingest.groups import NO_GROUPS, joined, parted
from components.ingest.written import GROUPS, Written
from contract.errors import DataError
from contract.records.data import empty_splits
from contract.schema.data import SPLITS

_REASONS_SHOWN = 5


@dataclass(frozen=True)
class BadRows:
    """All bad rows of an ingestion; `path` is None where there are none."""

    path: Path | None
    count: int
    reasons: Counter[str]
    samples: dict[str, str]


def gather_shards(
    folder: Path, written: Sequence[Written]
) -> tuple[dict[str, tuple[str, ...]], dict[str, int]]:
    """Name the shards of each split for good; return the names and the numbers of rows."""
    shards, examples = {}, empty_splits()
    for split in SPLITS:
        mine = [file for file in written if file.split == split]
        shards[split] = name_shards(folder, split, [file.path for file in mine])
        examples[split] = sum(file.rows for file in mine)
    return shards, examples


def gather_bad_rows(folder: Path, written: Sequence[Written], target: Path) -> BadRows:
    """Join the workers' files of bad rows into one, in the order of the source."""
    mine = [file for file in written if not file.split]
    reasons: Counter[str] = Counter()
    samples: dict[str, str] = {}
    if not mine:
        return BadRows(None, 0, reasons, samples)
    with target.open("wb") as joined:
        for file in mine:
            with (folder / file.path).open("rb") as part:
                shutil.copyfileobj(part, joined)
            (folder / file.path).unlink()
            reasons.update(file.reasons)
            samples = {**file.samples, **samples}
    return BadRows(target, sum(file.rows for file in mine), reasons, samples)


def count_parted_groups(folder: Path, written: Sequence[Written]) -> tuple[int, int]:
    """Return how many groups are in several splits, and how many there are; remove their files."""
    groups = NO_GROUPS
    for file in written:
        if file.split == GROUPS:
            groups = joined(groups, np.load(folder / file.path))
            (folder / file.path).unlink()
    return parted(groups)


def check_bad_rows(bad: BadRows, good: int, limit: float, failed_rows: Path) -> None:
    """Raise DataError if too many rows are bad; their file is copied to `failed_rows` first."""
    rows = good + bad.count
    if bad.path is None or bad.count <= limit * rows:
        failed_rows.unlink(missing_ok=True)
        return
    shutil.copyfile(bad.path, failed_rows)
    reasons = [
        f"  {count:,} × {reason} (as in {bad.samples[reason]})"
        for reason, count in bad.reasons.most_common(_REASONS_SHOWN)
    ]
    if (others := len(bad.reasons) - _REASONS_SHOWN) > 0:
        reasons.append(f"  and {others} more reasons")
    raise DataError(
        "\n".join(
            [
                f"ingest: {bad.count:,} of {rows:,} rows are bad ({bad.count / rows:.1%}), "
                f"ingest.max_bad_ratio allows {limit:.1%}:",
                *reasons,
                f"All of them: {failed_rows}",
            ]
        )
    )
