"""Candidate against champion on the same examples: not worse by more than a margin?"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from components.metrics import Answers, Array, is_lower_better, paired_difference

_POWER = 0.8
_RESAMPLES = 1000
_SEED = 20_261_121

OwnMetric = Callable[[Array, Array, Array], float]


@dataclass(frozen=True)
class Comparison:
    """A paired difference, seen so that more is better whatever the metric's direction.

    Attributes:
        advantage: Candidate minus champion; negative: the candidate is worse.
        low: With the asked confidence the true advantage is not below this (one-sided).
        detectable: The smallest true difference that would have been seen with a chance of 80 %.
    """

    advantage: float
    low: float
    detectable: float

    def is_not_inferior(self, margin: float) -> bool:
        """Tell whether a loss of more than `margin` is excluded; never for NaN."""
        return self.low >= -margin


def compare(task: str, metric: str, pair: tuple[Answers, Answers], confidence: float) -> Comparison:
    """Compare a built-in metric of (candidate, champion).

    The standard error comes from the difference of both models' influences, example by example
    (for AUC: DeLong, DeLong & Clarke-Pearson 1988), so that what both get right or wrong cancels
    out. Non-inferiority asks about one side only: the bound is that of a two-sided interval at
    `2 * confidence - 1`. Both models alike on every example leave no uncertainty at all.

    Source:
        Non-inferiority by the confidence bound: ICH E9 (1998), section 3.3.2.
    """
    difference = paired_difference(task, metric, *pair, confidence=2 * confidence - 1)
    error = (difference.high - difference.low) / 2 / NormalDist().inv_cdf(confidence)
    return _comparison(metric, difference.value, error, confidence)


def compare_own(
    metric: str, function: OwnMetric, pair: tuple[Answers, Answers], confidence: float
) -> Comparison:
    """Compare a user's metric; the standard error is that of a paired bootstrap (Efron 1979).

    Each resample draws the same examples for both models; seeded, 1000 resamples.
    """
    random = np.random.default_rng(_SEED)
    examples = len(pair[0].labels)

    def difference(rows: Array) -> float:
        ours, theirs = (model.at(rows) for model in pair)
        return function(ours.labels, ours.scores, ours.weights) - function(
            theirs.labels, theirs.scores, theirs.weights
        )

    draws = [difference(random.integers(0, examples, examples)) for _ in range(_RESAMPLES)]
    error = float(np.std(draws, ddof=1))
    return _comparison(metric, difference(np.arange(examples)), error, confidence)


def _comparison(metric: str, difference: float, error: float, confidence: float) -> Comparison:
    advantage = -difference if is_lower_better(metric) else difference
    normal = NormalDist()
    reach = normal.inv_cdf(confidence) * error
    if not math.isfinite(error):
        return Comparison(advantage, -math.inf, math.inf)
    detectable = (normal.inv_cdf(confidence) + normal.inv_cdf(_POWER)) * error
    return Comparison(advantage, advantage - reach, detectable)
