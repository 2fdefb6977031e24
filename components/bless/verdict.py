"""From figures to a decision with its reasons in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from components.bless.comparison import Comparison
from components.quality.metrics import Array, is_lower_better
from contract.records.evaluation import Metric
from contract.schema.data import HeadConfig
from contract.schema.training import BlessConfig

# Their figures rest on the rows of one class, however many the other has.
_BY_CLASS = frozenset({"auc", "precision", "recall"})
_SHOWN_CLASSES = 5


class Asked(NamedTuple):
    """What is compared, and by how much it may be worse."""

    metric: str
    margin: float


@dataclass(frozen=True)
class Finding:
    """One question that was asked of the candidate, and the answer."""

    has_passed: bool
    reason: str


def against_thresholds(metrics: Mapping[str, Metric], settings: BlessConfig) -> list[Finding]:
    """Hold each threshold against the candidate's metric on the test split."""
    return [
        _threshold(name, limit, metrics.get(name)) for name, limit in settings.thresholds.items()
    ]


def _threshold(name: str, limit: float, metric: Metric | None) -> Finding:
    if metric is None:
        return Finding(False, f"{name} is undefined on the test split; its threshold is {limit:g}")
    is_lower = is_lower_better(name)
    has_passed = metric.value <= limit if is_lower else metric.value >= limit
    bound = "≤" if is_lower else "≥"
    verdict = "met" if has_passed else "not met"
    return Finding(
        has_passed,
        f"{name} {metric.value:.4g} ({metric.low:.4g} to {metric.high:.4g}) on the test split, "
        f"required {bound} {limit:g}: {verdict}",
    )


def too_few_of_a_class(
    labels: Array, classes: Sequence[str], metric: str, settings: BlessConfig
) -> Finding | None:
    """Refuse to compare by classes of which the test split has hardly any rows; None if it has.

    With one row of a class, an AUC is that row's rank: DeLong's error says nothing there.
    """
    if metric not in _BY_CLASS:
        return None
    counts = np.bincount(labels.astype(np.int64), minlength=len(classes))
    rarest = int(counts.argmin())
    if counts[rarest] >= settings.min_examples_per_class:
        return None
    return Finding(
        False,
        f"{metric} cannot be compared: class '{classes[rarest]}' has {counts[rarest]} of "
        f"{len(labels)} test rows, at least {settings.min_examples_per_class} needed "
        "(bless.min_examples_per_class); use a larger test split, or another metric",
    )


def absent_classes(head: str, labels: Array, config: HeadConfig) -> str:
    """Return a warning that names the classes without any test row; empty if all have some."""
    if config.task == "regression":
        return ""
    counts = np.bincount(labels.astype(np.int64), minlength=len(config.classes))
    absent = [name for name, count in zip(config.classes, counts, strict=True) if not count]
    if not absent:
        return ""
    shown = ", ".join(f"'{name}'" for name in absent[:_SHOWN_CLASSES])
    more = f" and {len(absent) - _SHOWN_CLASSES} more" if len(absent) > _SHOWN_CLASSES else ""
    return (
        f"warning: head '{head}': no test row is of class {shown}{more}: the figures say nothing "
        "about it. Check the labels, or use a larger test split"
    )


def against_record(
    ours: Metric | None, recorded: float | None, obstacle: str, settings: BlessConfig
) -> Finding:
    """Hold a candidate to what was once measured of a champion that takes other inputs.

    Rows and inputs are not the same, so this is not a test: the figure itself must be within the
    margin.
    """
    name = settings.metric
    if recorded is None:
        return Finding(True, obstacle)
    if ours is None:
        return Finding(False, f"{obstacle}; {name} is undefined on the test split")
    loss = ours.value - recorded if is_lower_better(name) else recorded - ours.value
    has_passed = loss <= settings.margin
    verdict = "within" if has_passed else "beyond"
    return Finding(
        has_passed,
        f"{obstacle}; its {name} was {recorded:.4g} on the test split of its own run, the "
        f"candidate's is {ours.value:.4g}: {verdict} the margin {settings.margin:g}",
    )


def on_other_head(
    head: str, comparison: Comparison, version: int, asked: Asked, confidence: float
) -> Finding:
    """Refuse a candidate that one of the heads that do not decide shows to be worse."""
    is_worse = comparison.is_inferior(asked.margin)
    verdict = "a loss beyond the margin is shown" if is_worse else "no loss beyond the margin shown"
    return Finding(
        not is_worse,
        f"head '{head}': {asked.metric} differs by {comparison.advantage:+.4g} from version "
        f"{version}'s, margin {asked.margin:g} at {confidence:.0%} confidence: {verdict}",
    )


def on_slice(name: str, comparison: Comparison, version: int, asked: Asked, rows: int) -> Finding:
    """Refuse a candidate that the rows of a slice show to be worse."""
    is_worse = comparison.is_inferior(asked.margin)
    verdict = "a loss beyond the margin is shown" if is_worse else "no loss beyond the margin shown"
    return Finding(
        not is_worse,
        f"slice {name}: {asked.metric} differs by {comparison.advantage:+.4g} from version "
        f"{version}'s on {rows:,} test rows, margin {asked.margin:g}: {verdict}",
    )


def against_champion(
    comparison: Comparison, version: int, examples: int, settings: BlessConfig
) -> Finding:
    """Decide by non-inferiority: the bound on a loss must be within the margin."""
    has_passed = comparison.is_not_inferior(settings.margin)
    advantage = comparison.advantage
    seen = "equal to" if advantage == 0 else "better than" if advantage > 0 else "worse than"
    by = f"{abs(advantage):.4g} " if advantage else ""
    text = (
        f"{settings.metric} is {by}{seen} version {version}'s on the same {examples} test rows, "
        f"with {settings.confidence:.0%} confidence {_at_worst(comparison.low)}; margin "
        f"{settings.margin:g}: {_verdict(comparison, examples, settings.margin)}; "
        f"{_detectable(comparison)}"
    )
    return Finding(has_passed, text)


def _at_worst(low: float) -> str:
    return f"at worst {-low:.4g} worse" if low < 0 else f"at least {low:.4g} better"


def _detectable(comparison: Comparison) -> str:
    if math.isnan(comparison.detectable):
        return "both answer alike on each row, so what difference would have been seen is unknown"
    return (
        "the smallest difference that would have been seen is "
        f"{comparison.detectable:.4g} (80% power)"
    )


def _verdict(comparison: Comparison, examples: int, margin: float) -> str:
    if comparison.is_not_inferior(margin):
        return "not inferior"
    if comparison.advantage < -margin:
        return "inferior"
    if margin == 0 or not math.isfinite(comparison.detectable):
        return "a loss beyond the margin is not excluded (more test rows are needed)"
    # the standard error falls with the root of the rows
    needed = math.ceil(examples * (comparison.detectable / margin) ** 2)
    return f"a loss beyond the margin is not excluded (some {needed:,} test rows would tell)"
