"""The section about the label loop: what people are asked, and when their labels start a run."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from contract.schema.cron import check_cron
from contract.schema.section import Count, Ratio, Section

Measure = Literal["least_confidence", "margin", "entropy", "disagreement", "novelty"]


class LabelsConfig(Section):
    """The label loop: unsure predictions become questions, and people's answers the next run."""

    cron: str | None = Field(
        None,
        description="When the loop turns: a cron expression with five fields, in UTC; null: when "
        "somebody starts the DAG '<pipeline>.labels'.",
    )
    head: str = Field("", description="Head that is asked about; empty: the only one with classes.")
    by: Measure = Field("margin", description="What makes a row worth a label.")
    budget: Count = Field(
        100,
        description="Rows that a turn asks about, for each day of the log that it covers, at "
        "least 1.",
    )
    per_class: Count | None = Field(
        None,
        description="Most rows of one predicted class among them, the audit not counted, on "
        "average and at least 1; others use what it leaves. null: no limit.",
    )
    audit_ratio: Annotated[float, Field(ge=0.001, le=1.0)] = Field(
        0.1,
        description="Share of them that is chosen whatever the model thinks, from 0.001 to 1; "
        "these rows measure and are never trained on.",
    )
    people: Annotated[int, Field(ge=1, le=100)] = Field(
        3,
        description="Number of answers that a question wants, each by another person, from 1 "
        "to 100.",
    )
    min_answers: Count = Field(
        2, description="Number of answers below which a row has no label, at least 1."
    )
    min_confidence: Ratio = Field(
        0.9,
        description="Probability that a label is right, from 0 to 1, below which it is not "
        "learned.",
    )
    min_labels: Count = Field(
        100, description="Number of new labels that start a run, at least 1; fewer wait."
    )
    min_accuracy: Ratio | None = Field(
        None,
        description="Share of right answers by people's labels, from 0 to 1: while the version in "
        "service is below it with its whole range, a tenth of min_labels starts a run; null: only "
        "min_labels does.",
    )
    min_slice_accuracy: dict[str, Ratio] = Field(
        default_factory=dict,
        description="The same for slices, from 0 to 1: by 'feature=value', or by 'feature' for "
        "each of its values; features are of evaluate.slices.",
    )
    rolls_back: bool = Field(
        False,
        description="Whether the loop rolls the version in service back once people's labels show "
        "it to be worse than the champion before it by more than deploy.label_margin_ratio.",
    )

    def least_accuracy_of(self, name: str) -> float:
        """Return the accuracy below which a slice starts a run; 0: none does."""
        of_value = self.min_slice_accuracy.get(name)
        feature = name.partition("=")[0]
        return self.min_slice_accuracy.get(feature, 0.0) if of_value is None else of_value

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str | None) -> str | None:
        return check_cron(cron)
