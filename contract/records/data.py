"""What the steps about data leave."""

from typing import Literal

from pydantic import Field

from contract.records.record import Record
from contract.schema.data import SPLITS, AnomalyKind


class IngestRecord(Record):
    """Raw examples: shards by split, relative to the step's folder.

    Each tf.Example holds the features under their own names (missing values absent), per head
    `label:<head>` (int64 class index, or float32), `example_id` (bytes, hex digest of the key),
    and `weight` (float32) where the config names one.
    """

    shards: dict[str, tuple[str, ...]] = Field(
        description="Files of raw examples by split, relative to the step's folder."
    )
    examples: dict[str, int] = Field(description="Number of examples by split.")
    bad_rows: int = Field(0, description="Number of rows that could not be used.")
    bad_row_reasons: dict[str, int] = Field({}, description="Number of such rows by reason.")
    dead_letter: str = Field(
        "",
        description="File with these rows and their reasons, relative to the step's folder; "
        "empty: none.",
    )
    label_deltas: tuple[str, ...] = Field(
        (), description="Names of the files of later labels that were read."
    )
    replaced_rows: int = Field(0, description="Left out: a newer delta has their features.")
    columns: tuple[str, ...] = Field((), description="Of the source, used or not.")
    cuts: tuple[str, ...] = Field(
        (), description="First times of the eval and test splits, where the time decides."
    )
    groups: int = Field(
        0, description="Number of groups, where rows of one may be in several splits."
    )
    parted_groups: int = Field(0, description="Number of those whose rows are in several splits.")


class Anomaly(Record):
    """One way in which the data is not what it was or should be."""

    feature: str = Field(description="Column, split or key of the config that it is about.")
    kind: AnomalyKind | Literal["new_column"] = Field(description="What is different.")
    message: str = Field(description="What was found, what was expected and the next step.")
    value: float | None = Field(
        None, description="The number that was found, if it is about a number."
    )
    limit: float | None = Field(None, description="The limit that this number passes.")
    is_fatal: bool = Field(False, description="Whether it fails the step, by `validate.fail_on`.")


class ValidateRecord(Record):
    """Statistics and schema, relative to the step's folder, and what was found wrong."""

    statistics: str = Field(description="File with the statistics, relative to the step's folder.")
    data_schema: str = Field(description="File with the schema, relative to the step's folder.")
    anomalies: tuple[Anomaly, ...] = Field(
        (), description="What differs from the schema in force or from the last run."
    )
    labels: dict[str, dict[str, dict[str, float]]] = Field(
        {},
        description="By head and split, the share of each class, or mean, deviation, minimum and "
        "maximum of a regression's label.",
    )
    repeated_rows: dict[str, int] = Field(
        {},
        description="By split, the number of rows with the features of a row of an earlier split; "
        "empty where a hash of the features makes the splits, so that there are none.",
    )
    compared_with_run: str = Field(
        "", description="Id of the run whose statistics these were compared with; empty: none."
    )


class TransformRecord(Record):
    """Transformed examples and the transform graph, relative to the step's folder.

    Shards hold the transformed features, `label:<head>`, `example_id`, `weight` where there is
    one, and `slice:<feature>` (bytes, as text) for each slice.
    """

    transform_graph: str = Field(
        description="Folder of the transform graph, relative to the step's folder."
    )
    shards: dict[str, tuple[str, ...]] = Field(
        description="Files of transformed examples by split, relative to the step's folder."
    )
    examples: dict[str, int] = Field(description="Number of examples by split.")


def empty_splits() -> dict[str, int]:
    """Return a zero count for each split."""
    return dict.fromkeys(SPLITS, 0)
