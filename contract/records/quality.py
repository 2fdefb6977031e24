"""What late labels say of the version in service and of the one before it."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from contract.records.record import Record


class LabelledSlice(Record):
    """The accuracy of one version on the rows with one value of a feature."""

    requests: int = Field(description="Requests of which at least one such row is labelled.")
    accuracy: float = Field(description="Share of right rows, weighted.")
    low: float = Field(description="The true accuracy is surely at least this.")
    high: float = Field(description="The true accuracy is surely at most this.")


class LabelledVersion(Record):
    """The accuracy of one version in one head, by labels of what it has answered callers."""

    version: int = Field(description="The version.")
    requests: int = Field(description="Requests of which at least one row is labelled.")
    accuracy: float = Field(description="Share of right rows, weighted; 0 without requests.")
    low: float = Field(description="The true accuracy is surely at least this.")
    high: float = Field(description="The true accuracy is surely at most this.")
    first: datetime | None = Field(None, description="Time of the first of these requests.")
    last: datetime | None = Field(None, description="Time of the last of these requests.")
    slices: dict[str, LabelledSlice] = Field(
        {},
        description="By `feature=value`, for each feature in evaluate.slices; the ranges of a "
        "feature's values hold together.",
    )


class LabelTest(Record):
    """The test of one head: that the version in service is worse by more than the margin."""

    head: str = Field(description="The head that is predicted.")
    version: LabelledVersion = Field(description="The version in service.")
    before: LabelledVersion = Field(description="The champion before it.")
    evidence: float = Field(
        description="How many times a stake on a worse version has multiplied, up to 1e12."
    )
    bound: float = Field(description="The evidence from which on it is rolled back.")


class LabelVerdict(Record):
    """What a file of labels says of the version in service."""

    pipeline: str = Field(description="Name of the pipeline.")
    decision: Literal["rollback", "continue"] = Field(description="What follows from the labels.")
    reason: str = Field(description="Why, in words and figures.")
    decided_by: str = Field("", description="The head whose test decided; empty: none.")
    margin_ratio: float = Field(description="How much worse a version may be, from 0 to 1.")
    tests: tuple[LabelTest, ...] = Field((), description="One for each head with classes.")
    labels: int = Field(description="Valid labelled rows of the two versions.")
    unknown: int = Field(0, description="Rows whose prediction neither version has logged.")
    bad: int = Field(0, description="Rows that were refused: no such class, or two answers.")
    judged_at: datetime = Field(description="When it was judged, in UTC.")
