"""What became of newly labelled rows, and the asset that announces them."""

from datetime import datetime
from typing import Any

from pydantic import Field

from contract.records.record import Record


def labels_asset(pipeline: str) -> str:
    """Return the URI of the Airflow asset whose events start a run on new labels."""
    return f"slipway://{pipeline}/labels"


class BadLabel(Record):
    """A row that was refused. `row` counts from 1, as lines do."""

    row: int = Field(description="Number of the row.")
    reason: str = Field(description="Why it was refused, with the column.")
    found: str = Field(description="The value that was found; empty if it is not about one.")


class LabelsRecord(Record):
    """A file of labelled rows that was added; the record lies beside the delta."""

    pipeline: str = Field(description="Name of the pipeline.")
    delta: str = Field("", description="File name of the delta; empty: no row was new.")
    added: int = Field(description="Rows whose features no delta had.")
    corrected: int = Field(description="Rows that a delta had with another label or weight.")
    duplicates: int = Field(description="Rows that say the same as is known.")
    kept: int = Field(
        0, description="Rows on which a consensus differs from a label that somebody has added."
    )
    bad: tuple[BadLabel, ...] = Field((), description="Rows that were refused.")
    is_consensus: bool = Field(False, description="Whether the labels are a consensus of answers.")
    author: str = Field("", description="Who added them; empty: unknown.")
    added_at: datetime = Field(description="When they were added, in UTC.")

    @property
    def event(self) -> dict[str, Any]:
        """What the asset event carries."""
        return {"rows": self.added + self.corrected, "delta": self.delta}
