"""Candidate against champion on the same examples: not worse by more than a margin?"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from components.quality.metrics import Answers, Array, is_lower_better, paired_difference

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
        detectable: The smallest true difference that would have been seen with a chance of 80 %;
            NaN where the rows do not say: both answer alike on each.
    """

    advantage: float
    low: float
    detectable: float

    def is_not_inferior(self, margin: float) -> bool:
        """Tell whether a loss of more than `margin` is excluded; never for NaN."""
        return self.low >= -margin

    def is_inferior(self, margin: float) -> bool:
        """Tell whether a loss of more than `margin` is shown, by the bound's mirror image."""
        return 2 * self.advantage - self.low < -margin


def compare(task: str, metric: str, pair: tuple[Answers, Answers], confidence: float) -> Comparison:
    """Compare a built-in metric of (candidate, champion).

    The standard error comes from the difference of both models' influences, example by example
    (for AUC: DeLong, DeLong & Clarke-Pearson 1988), so that what both get right or wrong cancels
    out. Non-inferiority asks about one side only: the bound is that of a two-sided interval at
    `2 * confidence - 1`. Accuracy without weights has Tango's score interval, which holds for few
    rows too, and when both are right and wrong on the same ones.

    Source:
        Non-inferiority by the confidence bound: ICH E9 (1998), section 3.3.2.
    """
    if metric == "accuracy" and np.ptp(pair[0].weights) == 0:
        return _of_shares(_is_right(pair[0]), _is_right(pair[1]), confidence)
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
    if not math.isfinite(error):
        return Comparison(advantage, -math.inf, math.inf)
    reach = NormalDist().inv_cdf(confidence) * error
    detectable = _both_quantiles(confidence) * error if error > 0 else math.nan
    return Comparison(advantage, advantage - reach, detectable)


def _both_quantiles(confidence: float) -> float:
    """Return how many standard errors a difference must have to be seen with 80 % power."""
    normal = NormalDist()
    return normal.inv_cdf(confidence) + normal.inv_cdf(_POWER)


# --- shares of right answers --------------------------------------------------------------------


def _is_right(answers: Answers) -> Array:
    is_answer = np.isfinite(answers.scores).all(axis=1)
    return np.asarray((answers.scores.argmax(axis=1) == answers.labels) & is_answer)


def _of_shares(ours: Array, theirs: Array, confidence: float) -> Comparison:
    """Compare two shares on the same rows, by those that only one of the models has right.

    A true difference of `d` needs at least `d` of the rows to differ: so even where no row does,
    the smallest that would have been seen is (z_confidence + z_power)² / rows.
    """
    rows, gains, losses = len(ours), int(np.sum(ours & ~theirs)), int(np.sum(~ours & theirs))
    advantage = (gains - losses) / rows
    error = math.sqrt(max(0.0, gains + losses - (gains - losses) ** 2 / rows)) / rows
    quantiles = _both_quantiles(confidence)
    detectable = min(1.0, max(quantiles * error, quantiles**2 / rows))
    return Comparison(advantage, lower_bound(gains, losses, rows, confidence), detectable)


def lower_bound(gains: int, losses: int, rows: int, confidence: float) -> float:
    """Return the one-sided bound of a difference of paired shares, (gains - losses) / rows.

    Source:
        Tango (1998), Statistics in Medicine 17(8), 891–908: the difference at which the score
        test, with the maximum-likelihood share under it, just does not reject.
    """
    wanted = NormalDist().inv_cdf(confidence)

    def excess(difference: float) -> float:
        b = -gains - losses + (2 * rows - gains + losses) * difference
        c = -losses * difference * (1 - difference)
        share = (math.sqrt(max(0.0, b * b - 8 * rows * c)) - b) / (4 * rows)
        variance = rows * (2 * share + difference * (1 - difference))
        distance = gains - losses - rows * difference
        return distance - wanted * math.sqrt(max(variance, 0.0))

    # Not scipy's brentq: where no row is lost the upper end is a root too, at which it stops (with
    # models that agree everywhere it says 0 for -z²/(rows + z²)); its import costs 0.19 s of CPU.
    low, high = -1.0, (gains - losses) / rows
    for _ in range(60):  # halves the interval each time: to the last digit
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return low
