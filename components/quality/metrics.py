"""Figures of a model's quality, each with its confidence interval. NumPy only.

Names by task (`bless.metric` and `bless.thresholds` take them; see each function for its source):

    binary_classification        accuracy  precision  recall  auc  log_loss  brier
    multiclass_classification    accuracy  log_loss  brier
    regression                   mse  rmse  mae  r2

A user's own are made by the hook `metrics()` of `model.py`. Lower is better for log_loss, brier,
mse, rmse, mae and for names that end in `_loss` or `_error`. A figure that is undefined (the AUC of
one class alone, the R² of a constant) is left out.

Every figure is an estimate with an influence value per example: how much the example moves it. The
sum of their squares is its variance (delta method; Hampel 1974, JASA 69, 383–393), and the
difference of two models' influences on the same examples gives the variance of their difference.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from components.models.model_hooks import MODEL_FILE
from contract.errors import ConfigError, UserCodeError, did_you_mean
from contract.records.evaluation import Metric
from contract.schema.pipeline import PipelineConfig

Array = npt.NDArray[Any]
Custom = Mapping[str, Mapping[str, Callable[[Array, Array, Array], float]]]

_LOWER_IS_BETTER = frozenset({"log_loss", "brier", "mse", "rmse", "mae"})
_PROPORTIONS = frozenset({"accuracy", "precision", "recall"})
_SMALLEST_PROBABILITY = 1e-7  # about float32's resolution near 1; keeps one bad row finite
_RESAMPLES = 200  # for percentiles of a user's metric; Efron & Tibshirani (1993) advise 50 to 200+
_BOOTSTRAP_SEED = 20_240_229


@dataclass(frozen=True)
class Answers:
    """What a model said of one head's examples, and what was true.

    `labels` is int64 class indices or float32 values, `[examples]`; `scores` probabilities
    `[examples, classes]`, or values `[examples]` for regression; `weights` `[examples]`, above 0.
    """

    labels: Array
    scores: Array
    weights: Array

    def at(self, rows: Array) -> "Answers":
        """Return some of the examples, by mask or index."""
        return Answers(self.labels[rows], self.scores[rows], self.weights[rows])


@dataclass(frozen=True)
class Estimate:
    """A figure and each example's influence on it, `[examples]`; the influences sum to 0.

    `size` is the number of examples of equal weight that would say as much (Kish 1965); it is
    known for means only.
    """

    value: float
    influence: Array
    size: float = math.nan

    @property
    def standard_error(self) -> float:
        """The estimate's standard deviation."""
        return float(np.sqrt(np.sum(np.square(self.influence))))


# --- the front ----------------------------------------------------------------------------------


def is_lower_better(name: str) -> bool:
    """Tell whether a smaller value of this metric is the better one."""
    return name in _LOWER_IS_BETTER or name.endswith(("_loss", "_error"))


def metric_names(config: PipelineConfig, head: str, custom: Custom) -> tuple[str, ...]:
    """Return all metrics that are measured for a head."""
    return (*_ESTIMATES[config.heads[head].task], *custom.get(head, {}))


def check_metrics(config: PipelineConfig, custom: Custom) -> None:
    """Refuse a config that names a metric which is not measured for the blessing head.

    Raises:
        ConfigError: With the key and the nearest name, for each.
    """
    bless, early_stop = config.bless, config.evaluate.early_stop
    named = [("bless.metric", bless.metric)]
    named += [("bless.thresholds", name) for name in bless.thresholds]
    named += [("evaluate.early_stop.metric", early_stop.metric)] if early_stop.metric else []
    known = sorted(metric_names(config, config.blessing_head, custom))
    unknown = [
        f"{key}: unknown metric '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})"
        for key, name in named
        if name not in known
    ]
    if unknown:
        raise ConfigError(unknown)


def measure(task: str, answers: Answers, confidence: float) -> dict[str, Metric]:
    """Return every metric of a task that is defined on these examples, with its interval.

    Proportions have Wilson's interval, the others the normal one around the estimate, cut to
    [0, 1] for `auc`, and at 0 for losses.
    """
    measured = {}
    for name in _ESTIMATES[task]:
        estimate = estimate_metric(task, name, answers)
        if math.isfinite(estimate.value):
            measured[name] = _with_interval(name, estimate, confidence)
    return measured


def _number(name: str, function: Callable[[Array, Array, Array], float], part: Answers) -> float:
    found = function(part.labels, part.scores, part.weights)
    try:
        return float(found)
    except (TypeError, ValueError) as error:
        raise UserCodeError(
            f"{MODEL_FILE}: metrics: '{name}' returned {found!r}; expected a number"
        ) from error


def measure_own(
    functions: Mapping[str, Callable[[Array, Array, Array], float]],
    answers: Answers,
    confidence: float,
) -> dict[str, Metric]:
    """Return a user's metrics with percentile-bootstrap intervals (Efron 1979, seeded).

    Raises:
        UserCodeError: If it returns no number.
        Exception: Whatever the user's function raises; wrap the call in `user_code`.
    """
    random = np.random.default_rng(_BOOTSTRAP_SEED)
    examples = len(answers.labels)
    draws = [random.integers(0, examples, examples) for _ in range(_RESAMPLES)]
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    measured = {}
    for name, function in functions.items():
        value = _number(name, function, answers)
        again = [_number(name, function, part) for part in map(answers.at, draws)]
        if math.isfinite(value):
            low, high = (
                np.nanpercentile(again, tails) if np.any(np.isfinite(again)) else (value,) * 2
            )
            measured[name] = Metric(value=value, low=float(low), high=float(high))
    return measured


def estimate_metric(task: str, name: str, answers: Answers) -> Estimate:
    """Return one metric and each example's influence; the value is NaN where it is undefined.

    Raises:
        ValueError: If there are no examples.
    """
    if len(answers.labels) == 0:
        raise ValueError(f"{name}: no examples")
    wide = Answers(
        answers.labels, answers.scores.astype(np.float64), answers.weights.astype(np.float64)
    )
    with np.errstate(all="ignore"):  # NaN scores make NaN figures, which is what they are
        return _ESTIMATES[task][name](wide)


def paired_difference(
    task: str, name: str, candidate: Answers, baseline: Answers, confidence: float
) -> Metric:
    """Return candidate minus baseline on the same examples, with its normal interval.

    For `auc` this is DeLong's test of two correlated curves; for means the paired z interval.
    """
    ours = estimate_metric(task, name, candidate)
    theirs = estimate_metric(task, name, baseline)
    both = Estimate(ours.value - theirs.value, ours.influence - theirs.influence)
    reach = _quantile(confidence) * both.standard_error
    return Metric(value=both.value, low=both.value - reach, high=both.value + reach)


# --- the estimates ------------------------------------------------------------------------------


def weighted_mean(values: Array, weights: Array) -> Estimate:
    """Return the weighted mean; its influence is that of a ratio estimator (Cochran 1977, ch. 6).

    The factor n/(n-1), n Kish's effective size, makes the variance unbiased for equal weights.
    """
    total = weights.sum()
    if total <= 0:
        return Estimate(math.nan, np.zeros(len(values)), 0.0)
    mean = float(np.sum(weights * values) / total)
    size = float(total**2 / np.sum(np.square(weights)))
    unbiased = math.sqrt(size / (size - 1)) if size > 1 else 1.0
    return Estimate(mean, unbiased * weights * (values - mean) / total, size)


def _accuracy(answers: Answers) -> Estimate:
    """Share of examples whose most likely class is the true one; one without scores is wrong."""
    is_right = answers.scores.argmax(axis=1) == answers.labels
    is_answer = np.isfinite(answers.scores).all(axis=1)
    return weighted_mean((is_right & is_answer).astype(np.float64), answers.weights)


def _precision(answers: Answers) -> Estimate:
    """Share of true positives among the examples called positive (probability above 0.5)."""
    is_called = (answers.scores[:, 1] > 0.5).astype(np.float64)
    return weighted_mean((answers.labels == 1).astype(np.float64), answers.weights * is_called)


def _recall(answers: Answers) -> Estimate:
    """Share of the positive examples that are called positive (probability above 0.5)."""
    is_positive = (answers.labels == 1).astype(np.float64)
    return weighted_mean(
        (answers.scores[:, 1] > 0.5).astype(np.float64), answers.weights * is_positive
    )


def _auc(answers: Answers) -> Estimate:
    """Area under the ROC curve: the chance that a positive outscores a negative, ties half.

    Source:
        DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44(3), 837–845: the variance is that of
        the placement values; computed by sorting as Sun & Xu (2014), with weights added. Where a
        class has one example only its share of the variance is taken as 0.
    """
    score, positive = answers.scores[:, 1], answers.labels == 1
    influence = np.zeros(len(score))
    if positive.all() or not positive.any() or not np.all(np.isfinite(score)):
        return Estimate(math.nan, influence)
    above = _placements(score[positive], score[~positive], answers.weights[~positive])
    below = 1.0 - _placements(score[~positive], score[positive], answers.weights[positive])
    of_positives = weighted_mean(above, answers.weights[positive])
    influence[positive] = of_positives.influence
    influence[~positive] = weighted_mean(below, answers.weights[~positive]).influence
    return Estimate(of_positives.value, influence)


def _placements(points: Array, others: Array, weights: Array) -> Array:
    """Return for each point the weighted share of others below it, ties counted half."""
    order = np.argsort(others, kind="stable")
    cumulative = np.concatenate([[0.0], np.cumsum(weights[order])])
    below = cumulative[np.searchsorted(others[order], points, side="left")]
    not_above = cumulative[np.searchsorted(others[order], points, side="right")]
    return np.asarray((below + not_above) / 2 / cumulative[-1])


def _log_loss(answers: Answers) -> Estimate:
    """Mean of -log(probability of the true class), natural; probabilities from 1e-7 up."""
    chance = answers.scores[np.arange(len(answers.labels)), answers.labels]
    # np.maximum hands NaN on, as it should
    return weighted_mean(-np.log(np.maximum(chance, _SMALLEST_PROBABILITY)), answers.weights)


def _brier(answers: Answers) -> Estimate:
    """Mean squared error of the probability of class 1 (Brier 1950, in its one-class form)."""
    return weighted_mean(np.square(answers.scores[:, 1] - answers.labels), answers.weights)


def _brier_of_classes(answers: Answers) -> Estimate:
    """Mean over examples of the squared error summed over classes, 0..2 (Brier 1950, eq. 2)."""
    truth = np.eye(answers.scores.shape[1])[answers.labels]
    return weighted_mean(np.square(answers.scores - truth).sum(axis=1), answers.weights)


def _mse(answers: Answers) -> Estimate:
    """Mean squared error."""
    return weighted_mean(np.square(answers.scores - answers.labels), answers.weights)


def _rmse(answers: Answers) -> Estimate:
    """Root of the mean squared error; influence by the delta method, d√m = dm / (2√m)."""
    mse = _mse(answers)
    root = math.sqrt(mse.value) if mse.value >= 0 else math.nan
    return Estimate(root, mse.influence / (2 * root) if root > 0 else mse.influence)


def _mae(answers: Answers) -> Estimate:
    """Mean absolute error."""
    return weighted_mean(np.abs(answers.scores - answers.labels), answers.weights)


def _r2(answers: Answers) -> Estimate:
    """Share of the labels' variance that is explained: 1 - MSE / variance; NaN if that is 0.

    Influence by the delta method on the ratio of two means (Cochran 1977, ch. 6).
    """
    mean = weighted_mean(answers.labels.astype(np.float64), answers.weights).value
    mse = _mse(answers)
    variance = weighted_mean(np.square(answers.labels - mean), answers.weights)
    if not variance.value > 0:
        return Estimate(math.nan, np.zeros(len(answers.labels)))
    unexplained = mse.value / variance.value
    influence = (unexplained * variance.influence - mse.influence) / variance.value
    return Estimate(1 - unexplained, influence)


_ESTIMATES: dict[str, dict[str, Callable[[Answers], Estimate]]] = {
    "binary_classification": {
        "accuracy": _accuracy,
        "precision": _precision,
        "recall": _recall,
        "auc": _auc,
        "log_loss": _log_loss,
        "brier": _brier,
    },
    "multiclass_classification": {
        "accuracy": _accuracy,
        "log_loss": _log_loss,
        "brier": _brier_of_classes,
    },
    "regression": {"mse": _mse, "rmse": _rmse, "mae": _mae, "r2": _r2},
}


# --- intervals ----------------------------------------------------------------------------------


def wilson_interval(share: float, size: float, confidence: float) -> tuple[float, float]:
    """Return the interval of a proportion `share` seen in `size` trials (0..1, never empty).

    Source:
        Wilson (1927), JASA 22(158), 209–212.
    """
    z = _quantile(confidence)
    centre = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    reach = z / (1 + z**2 / size) * math.sqrt(share * (1 - share) / size + (z / (2 * size)) ** 2)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _with_interval(name: str, estimate: Estimate, confidence: float) -> Metric:
    if name in _PROPORTIONS:
        low, high = wilson_interval(estimate.value, estimate.size, confidence)
        return Metric(value=estimate.value, low=low, high=high)
    reach = _quantile(confidence) * estimate.standard_error
    low, high = estimate.value - reach, estimate.value + reach
    if name == "auc":
        low, high = max(0.0, low), min(1.0, high)
    elif is_lower_better(name):
        low = max(0.0, low)
    return Metric(value=estimate.value, low=low, high=high)


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
