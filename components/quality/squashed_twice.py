"""Answers that look as if the model's outputs were probabilities before Slipway made them so."""

import math

import numpy as np

from components.data.raw_examples import Array

_FEWEST_ROWS = 20
_LEAST_SPREAD = 0.5  # of logits; a model that knows nothing yet stays near one value
_SLACK = 1e-3


def are_squashed_twice(task: str, scores: Array) -> bool:
    """Tell whether answers are what a sigmoid or softmax makes of probabilities.

    All logits of a binary head are then within [0, 1], its answers within [0.5, 0.731]: every row
    gets the second class. Those of a multiclass head are within [0, 1] and sum up to 1 in each row,
    which the answers show: a softmax keeps the differences of its logits.

    Args:
        task: The head's task; regression never looks so.
        scores: Probabilities, float `[rows, classes]`. Of fewer than 20 rows nothing is said.
    """
    if task == "regression" or len(scores) < _FEWEST_ROWS or not np.all(scores > 0.0):
        return False
    logs = np.log(scores.astype(np.float64))
    if task == "binary_classification":
        logits = logs[:, 1] - logs[:, 0]
    else:
        logits = logs - logs.mean(axis=1, keepdims=True) + 1.0 / scores.shape[1]
    is_within = logits.min() >= -_SLACK and logits.max() <= 1.0 + _SLACK
    return bool(is_within and np.ptp(logits) >= _LEAST_SPREAD)


def in_words(head: str, task: str) -> str:
    """Return a warning for a head whose answers look so."""
    name, most = "softmax", ""
    if task == "binary_classification":
        name, most = "sigmoid", f" (all answers are within 0.5 and {1 / (1 + math.exp(-1)):.2f})"
    return (
        f"warning: head '{head}': the model's outputs look like probabilities{most}; expected "
        f"logits. If model.py ends in a {name}, remove it: Slipway applies one itself"
    )
