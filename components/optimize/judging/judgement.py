"""What a lossy pass costs: points of a metric where labels are known, of agreement elsewhere."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.data.raw_examples import Array
from components.optimize.judging.batches import answer
from components.quality import metrics
from contract.records.evaluation import Metric

_CONFIDENCE = 0.95
_HALVINGS = 6  # of the range in which a factor is looked for: 1.6 % of it are left
# These lie in [0, 1] (r2: below 1), so that 0.01 is a point; of the others 1 % of the value is one.
_BOUNDED = frozenset({"accuracy", "precision", "recall", "auc", "brier", "r2"})

_LOST = "the share of rows that lose their right class"
_CHANGED = "the share of rows whose class changes"

Call = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True)
class Truth:
    """What is known of one output: its task, the metric that judges it, and the labels.

    `labels` are int64 class indices or float32 values, `[rows]`; `weights` `[rows]`, above 0.
    """

    output: str
    task: str
    metric: str
    labels: Array
    weights: Array


@dataclass(frozen=True)
class Evaluation:
    """The rows on which lossy passes are judged, and what is true of them.

    The first truth is the one whose metric is reported; none: the outputs must agree.
    """

    signature: str
    inputs: Mapping[str, Array]
    truths: tuple[Truth, ...] = ()

    @property
    def in_words(self) -> str:
        """The yardstick, as 'accuracy of scores'."""
        if not self.truths:
            return "agreement with the original"
        return f"{self.truths[0].metric} of {self.truths[0].output}"


@dataclass(frozen=True)
class AnswerCost:
    """A candidate beside the original, on the evaluation rows.

    Attributes:
        cost_percent: Points lost by the worst output (`AnswerJudge`); below 0 if all got better.
        agreement_ratio: Rows with the same predicted class; None where no output is one.
        metric: The reported metric of the candidate; None without labels.
        metric_difference: It minus the original's, paired, with its 95 % interval.
        measured_by: What the cost is, where it is not the metric's, in words.
        reach: By which factor all its differences could grow before it costs more than the budget,
            of 1 to the most that was asked for; 1 where nobody asked.
    """

    cost_percent: float
    agreement_ratio: float | None
    metric: float | None
    metric_difference: Metric | None
    reach: float = 1.0
    measured_by: str = ""

    @property
    def in_words(self) -> str:
        """The cost, as '0.37 points (95 % interval of the difference: -1.1 to 0.4)'."""
        notes = [self.measured_by] if self.measured_by else []
        if self.metric_difference is not None:
            low, high = self.metric_difference.low, self.metric_difference.high
            notes.append(f"metric's difference, 95 % interval: {low:+.4f} to {high:+.4f}")
        return f"{self.cost_percent:.2f} points" + (f" ({'; '.join(notes)})" if notes else "")


class AnswerJudge:
    """Holds candidates against the original's answers to the evaluation rows.

    An output with labels costs what its metric loses: points of one that lies in [0, 1], percent
    of the original's value for others (log_loss, rmse). A class costs at least the share of rows
    that lose their right one, whatever its metric says: an AUC is the same where all probabilities
    are half as large. Without labels it costs the share of rows where it changes. Real numbers
    without labels cost their mean difference over the spread (standard deviation) of the
    original's. The worst output counts.
    """

    def __init__(self, original: Call, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._expected = answer(original, evaluation.inputs)
        self.metric = self._metric(self._expected)

    def judge(self, candidate: Call) -> AnswerCost:
        """Let a candidate's signature answer the evaluation rows, and compare."""
        return self.judge_answers(answer(candidate, self._evaluation.inputs))

    def judge_answers(self, found: Mapping[str, Array]) -> AnswerCost:
        """Compare what a candidate answered to the evaluation rows, by output."""
        same = [agreement(one, found[name]) for name, one in self._expected.items()]
        cost_percent, measured_by = self._cost(found)
        return AnswerCost(
            cost_percent,
            min((one for one in same if one is not None), default=None),
            self._metric(found),
            self._difference(found),
            measured_by=measured_by,
        )

    def reach(self, found: Mapping[str, Array], budget_percent: float, most: float) -> float:
        """Return by which factor all differences could grow before they cost more than the budget.

        Args:
            found: What a candidate answered to the evaluation rows, by output.
            budget_percent: What it may cost.
            most: The largest factor of interest; 1 is the least that is returned.
        """
        if self._cost(self._grown(found, most))[0] <= budget_percent:
            return most
        within, beyond = 1.0, most
        for _ in range(_HALVINGS):
            middle = (within + beyond) / 2.0
            is_within = self._cost(self._grown(found, middle))[0] <= budget_percent
            within, beyond = (middle, beyond) if is_within else (within, middle)
        return within

    def _grown(self, found: Mapping[str, Array], factor: float) -> dict[str, Array]:
        """Return answers whose differences from the original's are that many times as large."""
        grown = {}
        for name, expected in self._expected.items():
            if not np.issubdtype(expected.dtype, np.floating):
                grown[name] = found[name]
                continue
            wide = expected.astype(np.float64)
            grown[name] = wide + factor * (found[name] - wide)
        return grown

    def _cost(self, found: Mapping[str, Array]) -> tuple[float, str]:
        """Return the cost of the worst output, and what it is if it is not its metric's."""
        truths = {truth.output: truth for truth in self._evaluation.truths}
        costs = [(self._loss(truth, found), "") for truth in self._evaluation.truths]
        for name, expected in self._expected.items():
            truth = truths.get(name)
            same = agreement(expected, found[name])
            if truth is not None and truth.task != "regression":
                costs.append((100.0 * lost_classes(truth, expected, found[name]), _LOST))
            elif truth is None and same is not None:
                costs.append((100.0 * (1.0 - same), _CHANGED))
            elif truth is None:
                costs.append((100.0 * spread(expected, found[name]), ""))
        # A NaN must not pass for a small cost.
        known = [(math.inf if math.isnan(cost) else cost, words) for cost, words in costs]
        return max(known, key=lambda one: one[0], default=(0.0, ""))

    def _metric(self, found: Mapping[str, Array]) -> float | None:
        if not self._evaluation.truths:
            return None
        truth = self._evaluation.truths[0]
        return metrics.estimate_metric(truth.task, truth.metric, _answers(truth, found)).value

    def _difference(self, found: Mapping[str, Array]) -> Metric | None:
        if not self._evaluation.truths:
            return None
        truth = self._evaluation.truths[0]
        pair = (_answers(truth, found), _answers(truth, self._expected))
        return metrics.paired_difference(truth.task, truth.metric, *pair, _CONFIDENCE)

    def _loss(self, truth: Truth, found: Mapping[str, Array]) -> float:
        before, after = (
            metrics.estimate_metric(truth.task, truth.metric, _answers(truth, one)).value
            for one in (self._expected, found)
        )
        lost = after - before if metrics.is_lower_better(truth.metric) else before - after
        unit = 1.0 if truth.metric in _BOUNDED else max(abs(before), 1e-12)
        return 100.0 * lost / unit


def agreement(expected: Array, found: Array) -> float | None:
    """Return the share of rows with the same predicted class; None if an output predicts none.

    The class is the largest of the last axis where that has two or more numbers, else whether a
    probability (all numbers in [0, 1]) is above 0.5. Values other than floats agree if equal.
    """
    if not np.issubdtype(expected.dtype, np.floating):
        return float(np.mean(expected == found)) if expected.shape == found.shape else 0.0
    if (expected.ndim > 1 and expected.shape[-1] > 1) or np.all((expected >= 0) & (expected <= 1)):
        return float(np.mean(_classes(expected) == _classes(found)))
    return None


def lost_classes(truth: Truth, expected: Array, found: Array) -> float:
    """Return the share of rows, by weight, whose class was right and is not any more.

    Rows that become right make up for none of them.
    """
    labels = truth.labels.reshape(len(truth.labels))
    was_right, is_right = (
        _classes(one).reshape(len(labels)) == labels for one in (expected, found)
    )
    return float(np.sum(truth.weights * (was_right & ~is_right)) / np.sum(truth.weights))


def _classes(answers: Array) -> Array:
    if answers.ndim > 1 and answers.shape[-1] > 1:
        return np.asarray(answers.argmax(axis=-1))
    return np.asarray(answers > 0.5).astype(np.int64)


def spread(expected: Array, found: Array) -> float:
    """Return the mean absolute difference over the standard deviation of the expected numbers."""
    scale = float(np.std(expected.astype(np.float64)))
    apart = float(np.mean(np.abs(expected.astype(np.float64) - found)))
    return apart / scale if scale > 0 else (0.0 if apart == 0 else math.inf)


def _answers(truth: Truth, found: Mapping[str, Array]) -> metrics.Answers:
    scores = found[truth.output]
    if truth.task == "regression":
        scores = scores.reshape(len(truth.labels))
    return metrics.Answers(truth.labels, scores, truth.weights)
