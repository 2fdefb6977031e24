"""What a turn of the label loop leaves: the part of the log it asked about, and the labels."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from pydantic import Field

from contract.records.quality import LabelledSlice, LabelledVersion
from contract.records.record import Record

# Of labels.min_labels, while the version in service is below labels.min_accuracy: a single label
# would start a run with each turn.
_PART_WHILE_BELOW = 10


def labels_to_run(min_labels: int, is_below: bool) -> int:
    """Return the number of new labels that start a run."""
    return -(-min_labels // _PART_WHILE_BELOW) if is_below else min_labels


class HarvestRecord(Record):
    """The part of the prediction log that people were asked about last.

    It is written before the rows are chosen, and again when they are questions: a harvest that was
    killed is repeated with the same part and the same seed, so that each row is chosen once.
    """

    since: datetime | None = Field(
        None, description="Rows from this moment on, in UTC; null: all before `until`."
    )
    until: datetime = Field(description="Rows before this moment, in UTC.")
    seed: int = Field(description="Of the choice.")
    batches: int = Field(
        0,
        description="Batches of questions that were there before: rows that are nearly the same as "
        "theirs are not asked again.",
    )
    is_done: bool = Field(False, description="Whether the chosen rows are questions.")
    questions: int = Field(0, description="Rows that were chosen.")
    problem: str = Field("", description="Why none of the logged rows can be asked about.")


class LabelLoopRecord(Record):
    """What people's answers said at the last turn of the loop, and what became of it."""

    pipeline: str = Field(description="Name of the pipeline.")
    answers: int = Field(0, description='Answers, without "can\'t tell".')
    labels: int = Field(0, description="Rows that have a label which is sure enough to learn from.")
    waiting: int = Field(0, description="Labels of them that are new, and too few to be stored.")
    added: int = Field(0, description="Labels that were stored now.")
    delta: str = Field("", description="File name of the delta that they are in; empty: none.")
    accuracy: tuple[LabelledVersion, ...] = Field(
        (), description="Accuracy of each version by people's labels, the newest version first."
    )
    champion: int = Field(0, description="The version in service; 0: none.")
    is_below: bool = Field(
        False,
        description="Whether that version's whole range, or a slice's, is below what "
        "labels.min_accuracy or labels.min_slice_accuracy wants.",
    )
    below_slices: tuple[str, ...] = Field((), description="The slices of which that is true.")
    verdict: str = Field(
        "",
        description="What the labels say of the version in service beside the champion before it, "
        "or why nothing; empty: there is nothing to compare.",
    )
    is_worse: bool = Field(
        False, description="Whether they show that version to be worse by more than the margin."
    )
    turned_at: datetime = Field(description="When, in UTC.")

    def in_words(self, min_labels: int) -> Iterator[str]:
        """Yield what people's labels say of the versions, and what became of the labels."""
        yield from accuracy_in_words(self.accuracy, self.champion, self.below_slices)
        if self.is_below:
            key = "labels.min_slice_accuracy" if self.below_slices else "labels.min_accuracy"
            slices = "".join(f", {name}" for name in self.below_slices)
            yield f"version {self.champion}{slices}: below {key}, with the whole range"
        if self.verdict:
            yield self.verdict
        told = f"{self.labels:,} labels to learn from by {self.answers:,} answers"
        if self.delta:
            yield f"{told}; {self.added:,} of them are new and stored as {self.delta}"
        else:
            wanted = labels_to_run(min_labels, self.is_below)
            yield f"{told}; {self.waiting:,} of them are new, {wanted:,} start a run"


def accuracy_in_words(
    accuracy: Sequence[LabelledVersion], champion: int, slices: Collection[str] | None = None
) -> Iterator[str]:
    """Yield a line for each version, and for its slices.

    Args:
        accuracy: Of each version.
        champion: The version in service; 0: none.
        slices: Those to tell of; None: all.
    """
    for one in accuracy:
        served = " (in service)" if one.version == champion else ""
        yield f"version {one.version}{served} is right in {_in_words(one)}"
        for name, found in one.slices.items():
            if slices is None or name in slices:
                yield f"version {one.version}, {name}: right in {_in_words(found)}"


def _in_words(found: LabelledVersion | LabelledSlice) -> str:
    return (
        f"{found.accuracy:.1%} of {found.requests:,} labelled requests "
        f"({found.low:.1%} to {found.high:.1%})"
    )
