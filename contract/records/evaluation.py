"""What evaluation and the blessing leave."""

from datetime import datetime

from pydantic import Field

from contract.records.record import Record


class Metric(Record):
    """A figure with its confidence interval."""

    value: float = Field(description="The figure itself.")
    low: float = Field(description="Lower end of its confidence interval.")
    high: float = Field(description="Upper end of its confidence interval.")


class Curve(Record):
    """Points of a curve, in order; at most some hundred."""

    x: tuple[float, ...] = Field(description="Positions on the horizontal axis.")
    y: tuple[float, ...] = Field(description="Positions on the vertical axis, one for each of x.")


class Curves(Record):
    """What one head's pictures are drawn from; every count is of example weights.

    For several classes `roc` and `precision_recall` are one-versus-rest over all of them (micro).
    """

    confusion: tuple[tuple[float, ...], ...] = Field(
        (), description="[true][predicted]; empty for regression and for very many classes."
    )
    roc: Curve | None = Field(None, description="False positive over true positive rate.")
    precision_recall: Curve | None = Field(None, description="Recall over precision.")
    reliability: Curve | None = Field(
        None,
        description="By tenths of the examples: mean probability (of class 1, or of the class "
        "called) over its share in truth; regression: mean prediction over mean label.",
    )


class Verdict(Record):
    """The one judgement of one checkpoint on the eval split."""

    step: int = Field(description="Training step of the checkpoint.")
    examples: int = Field(description="Number of examples that it was judged on.")
    metrics: dict[str, dict[str, Metric]] = Field(description="By head, then metric.")
    slices: dict[str, dict[str, dict[str, Metric]]] = Field(
        {}, description="By 'feature=value', then head, then metric."
    )
    curves: dict[str, Curves] = Field({}, description="By head.")
    judged_at: datetime = Field(description="When the verdict was written.")
    lag_seconds: float = Field(description="From checkpoint written to verdict.")
    judge_seconds: float = Field(0.0, description="Of it, what loading and judging took.")
    judged_by: str = Field("", description="Replica and attempt of the evaluator, as in '0.1'.")
    checkpoint: str = Field("", description="Digest of the manifest of what was judged.")


class ModelRefused(Record):
    """No checkpoint of this run's model can be served, because of what was found in one."""

    step: int = Field(description="Of the checkpoint in which it was found.")
    reason: str = Field(description="What was found, and what to change.")


class EvaluateRecord(Record):
    """All verdicts of a run."""

    steps: tuple[int, ...] = Field(
        description="Training steps of the checkpoints that have a verdict."
    )
    best_step: int = Field(description="Step of the checkpoint with the best verdict.")
    broken_steps: tuple[int, ...] = Field((), description="Published and not readable: no verdict.")
    max_lag_seconds: float = Field(
        0.0, description="Longest time from a checkpoint to its verdict."
    )
    p95_lag_seconds: float = Field(0.0, description="95th percentile of these times.")


class BlessRecord(Record):
    """Whether the candidate may continue; `candidate` is a SavedModel in the step's folder."""

    is_blessed: bool = Field(description="Whether the candidate may continue.")
    candidate: str = Field(description="Folder of its SavedModel, relative to the step's folder.")
    step: int = Field(description="Training step of the checkpoint that it is made from.")
    champion_version: int | None = Field(description="What it was compared with; null: nothing.")
    metrics: dict[str, dict[str, Metric]] = Field(
        {}, description="Of the candidate on the test split, by head, then metric."
    )
    champion_metrics: dict[str, dict[str, Metric]] = Field(
        {}, description="Of the champion on the same rows, by head, then metric."
    )
    detectable_difference: float | None = Field(
        None, description="The smallest true difference that would have been seen (80 % power)."
    )
    reasons: tuple[str, ...] = Field(description="Why it is blessed or not, for people.")
