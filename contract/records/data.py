"""What the steps about data leave."""

from typing import Literal

from pydantic import Field

from contract.records.record import Record
from contract.schema.data import SPLITS


class IngestRecord(Record):
    """Raw examples: shards by split, relative to the step's folder.

    Each tf.Example holds the features under their own names (missing values absent), per head
    `label:<head>` (int64 class index, or float32), `example_id` (bytes, hex digest of the key),
    and `weight` (float32) where the config names one.
    """

    shards: dict[str, tuple[str, ...]]
    examples: dict[str, int]
    bad_rows: int = 0
    bad_row_reasons: dict[str, int] = Field({})
    dead_letter: str = ""
    label_deltas: tuple[str, ...] = ()
    replaced_rows: int = Field(0, description="Left out: a newer delta has their features.")
    columns: tuple[str, ...] = Field((), description="Of the source, used or not.")


class Anomaly(Record):
    """One way in which the data is not what it was or should be."""

    feature: str
    kind: Literal[
        "missing_column", "new_column", "type", "range", "missing", "new_category", "drift"
    ]
    message: str
    value: float | None = None
    limit: float | None = None
    is_fatal: bool = False


class ValidateRecord(Record):
    """Statistics and schema, relative to the step's folder, and what was found wrong."""

    statistics: str
    data_schema: str
    anomalies: tuple[Anomaly, ...] = ()
    compared_with_run: str = ""


class TransformRecord(Record):
    """Transformed examples and the transform graph, relative to the step's folder.

    Shards hold the transformed features, `label:<head>`, `example_id`, `weight` where there is
    one, and `slice:<feature>` (bytes, as text) for each slice.
    """

    transform_graph: str
    shards: dict[str, tuple[str, ...]]
    examples: dict[str, int]


def empty_splits() -> dict[str, int]:
    """Return a zero count for each split."""
    return dict.fromkeys(SPLITS, 0)
