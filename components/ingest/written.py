"""What a worker of ingestion reports: the files it wrote."""

import json
from dataclasses import asdict, dataclass, field

REPLACED = "replaced"
GROUPS = "groups"


@dataclass(frozen=True, order=True)
class Written:
    """One file that a worker wrote: a shard of a split, or (split `""`) bad rows.

    Rows that label deltas replace (split REPLACED) have no file; only their number is kept. A file
    of GROUPS is for the one who gathers, and is not kept.

    Order is that of the source: by unit of work, then by the batch after which it was written.
    `reasons` counts bad rows by reason, `samples` has the first of each.
    """

    unit: int
    batch: int
    split: str
    path: str
    rows: int
    reasons: dict[str, int] = field(default_factory=dict, compare=False)
    samples: dict[str, str] = field(default_factory=dict, compare=False)


def as_json(written: Written) -> str:
    """Return the report as one line."""
    return json.dumps(asdict(written))
