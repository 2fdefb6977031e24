"""What a model's pictures are drawn from: confusion matrix, ROC, precision-recall, reliability.

Small enough to be part of a verdict, so that every reader of the verdict can draw. In NumPy alone:
`sklearn.metrics` computes the same (a test compares them), and its import costs an evaluator more
CPU time than the curves of a run's checkpoints.
"""

import numpy as np

from components.quality.metrics import Answers, Array
from contract.records.evaluation import Curve, Curves

_MOST_POINTS = 200
_MOST_CLASSES = 100  # a matrix of more would outgrow the rest of a verdict
_MOST_DECISIONS = 200_000  # examples times classes of a micro average; drawn by chance beyond
_BINS = 10
_SEED = 20_261_121


def curves_of(task: str, answers: Answers) -> Curves:
    """Return the curves of one head; those that are undefined (one class only, NaN) are None."""
    scores = answers.scores.reshape(len(answers.labels), -1)
    answers = answers.at(np.flatnonzero(np.isfinite(scores).all(axis=1)))
    if not len(answers.labels):
        return Curves()
    if task == "regression":
        return Curves(reliability=_reliability(answers.scores, answers.labels, answers.weights))
    classes = answers.scores.shape[1]
    called = answers.scores.argmax(axis=1)
    if task == "binary_classification":
        decisions = (answers.labels == 1, answers.scores[:, 1], answers.weights)
        reliability = _reliability(answers.scores[:, 1], answers.labels == 1, answers.weights)
    else:
        decisions = _one_versus_rest(answers)
        reliability = _reliability(
            answers.scores.max(axis=1), called == answers.labels, answers.weights
        )
    return Curves(
        confusion=_confusion(answers, called, classes) if classes <= _MOST_CLASSES else (),
        roc=_roc(*decisions),
        precision_recall=_precision_recall(*decisions),
        reliability=reliability,
    )


def _one_versus_rest(answers: Answers) -> tuple[Array, Array, Array]:
    """Return every (example, class) as a separate decision: the micro average."""
    examples, classes = answers.scores.shape
    if examples * classes > _MOST_DECISIONS:
        some = np.random.default_rng(_SEED).choice(examples, _MOST_DECISIONS // classes, False)
        answers = answers.at(np.sort(some))
    truth = answers.labels[:, None] == np.arange(classes)
    return truth.ravel(), answers.scores.ravel(), np.repeat(answers.weights, classes)


def _confusion(answers: Answers, called: Array, classes: int) -> tuple[tuple[float, ...], ...]:
    counts = np.zeros((classes, classes))
    np.add.at(counts, (answers.labels, called), answers.weights)
    return tuple(tuple(row) for row in counts.tolist())


def _roc(is_positive: Array, score: Array, weights: Array) -> Curve | None:
    false, true = _called_positive(is_positive, score, weights)
    if not len(true) or not false[-1] or not true[-1]:
        return None
    is_corner = (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0)
    false, true = (_from_zero(_with_ends(counts, is_corner)) for counts in (false, true))
    return _thinned(false / false[-1], true / true[-1])


def _precision_recall(is_positive: Array, score: Array, weights: Array) -> Curve | None:
    false, true = _called_positive(is_positive, score, weights)
    if not len(true) or not true[-1]:
        return None
    moves = np.diff(true) != 0
    false, true = (_with_ends(counts, moves[:-1] | moves[1:]) for counts in (false, true))
    recall, precision = _from_zero(true / true[-1]), np.append(1.0, true / (true + false))
    return _thinned(recall, precision)


def _called_positive(is_positive: Array, score: Array, weights: Array) -> tuple[Array, Array]:
    """Return the weights of false and true positives at each distinct score, highest first."""
    used = np.flatnonzero(weights)
    order = used[np.argsort(-score[used], kind="stable")]
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))[: len(order)]
    is_true, weight = is_positive[order], weights[order].astype(np.float64)
    return np.cumsum(weight * ~is_true)[last], np.cumsum(weight * is_true)[last]


def _with_ends(values: Array, is_kept: Array) -> Array:
    """Return the first value, the last, and those between them that are kept."""
    return values[np.concatenate([[True], is_kept, [True]])] if len(values) > 2 else values


def _from_zero(values: Array) -> Array:
    return np.append(0.0, values)


def _reliability(said: Array, seen: Array, weights: Array) -> Curve:
    """Average what was said and what was seen over tenths of the examples, by what was said.

    Bins of equal counts: the expected calibration error over them is less biased than over bins of
    equal width (Nixon et al. 2019, arXiv:1904.01685, section 3). Equal answers stay together.
    """
    edges = np.unique(np.quantile(said, np.linspace(0, 1, _BINS + 1)))
    position = np.clip(np.searchsorted(edges, said, side="left") - 1, 0, max(len(edges) - 2, 0))
    weight = np.bincount(position, weights)
    filled = weight > 0
    mean_said = np.bincount(position, weights * said)[filled] / weight[filled]
    mean_seen = np.bincount(position, weights * seen)[filled] / weight[filled]
    return Curve(x=tuple(mean_said.tolist()), y=tuple(mean_seen.tolist()))


def _thinned(x: Array, y: Array) -> Curve:
    """Keep points about equally far apart along the curve, the ends among them."""
    if len(x) > _MOST_POINTS:
        way = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        wanted = np.linspace(0, way[-1], _MOST_POINTS)
        kept = np.unique(np.searchsorted(way, wanted, side="left").clip(0, len(x) - 1))
        x, y = x[kept], y[kept]
    return Curve(x=tuple(x.tolist()), y=tuple(y.tolist()))
