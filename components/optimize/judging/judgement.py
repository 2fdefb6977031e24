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
# These lie in [0, 1] (r2: below 1), so that 0.01 is a point; of the others 1 % of the value is one.
_BOUNDED = frozenset({"accuracy", "precision", "recall", "auc", "brier", "r2"})

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
class Judgement:
    """A candidate beside the original, on the evaluation rows.

    Attributes:
        cost_percent: Points lost by the worst output (see `Judge`); below 0 if all got better.
        agreement_ratio: Rows with the same predicted class; None where no output is one.
        metric: The reported metric of the candidate; None without labels.
        metric_difference: It minus the original's, paired, with its 95 % interval.
    """

    cost_percent: float
    agreement_ratio: float | None
    metric: float | None
    metric_difference: Metric | None

    @property
    def in_words(self) -> str:
        """The cost, as '0.37 points (95 % interval of the difference: -1.1 to 0.4)'."""
        words = f"{self.cost_percent:.2f} points"
        if self.metric_difference is None:
            return words
        low, high = self.metric_difference.low, self.metric_difference.high
        return f"{words} (metric's difference, 95 % interval: {low:+.4f} to {high:+.4f})"


class Judge:
    """Holds candidates against the original's answers to the evaluation rows.

    An output with labels costs what its metric loses: points of one that lies in [0, 1], percent
    of the original's value for others (log_loss, rmse). One without costs the share of rows whose
    class changes; real numbers cost their mean difference over the spread (standard deviation) of
    the original's. The worst output counts.
    """

    def __init__(self, original: Call, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._expected = answer(original, evaluation.inputs)
        self.metric = self._metric(self._expected)

    def judge(self, candidate: Call) -> Judgement:
        """Let a candidate's signature answer the evaluation rows, and compare."""
        return self.judge_answers(answer(candidate, self._evaluation.inputs))

    def judge_answers(self, found: Mapping[str, Array]) -> Judgement:
        """Compare what a candidate answered to the evaluation rows, by output."""
        known = {truth.output for truth in self._evaluation.truths}
        costs = [self._loss(truth, found) for truth in self._evaluation.truths]
        agreements = []
        for name, expected in self._expected.items():
            same = agreement(expected, found[name])
            agreements += [] if same is None else [same]
            if name not in known:
                share = spread(expected, found[name]) if same is None else 1.0 - same
                costs.append(100.0 * share)
        # A NaN must not pass for a small cost.
        cost = max((math.inf if math.isnan(one) else one for one in costs), default=0.0)
        return Judgement(
            cost, min(agreements, default=None), self._metric(found), self._difference(found)
        )

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
    if expected.ndim > 1 and expected.shape[-1] > 1:
        return float(np.mean(expected.argmax(axis=-1) == found.argmax(axis=-1)))
    if np.all((expected >= 0) & (expected <= 1)):
        return float(np.mean((expected > 0.5) == (found > 0.5)))
    return None


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
