"""How far a runtime's answers are from TensorFlow's."""

import math
from collections.abc import Mapping

import numpy as np

from components.raw_examples import Array

Answers = Mapping[str, Array]


def max_difference(expected: Answers, found: Answers) -> float:
    """Return the largest difference of any answer: absolute below 1 in magnitude, relative above.

    Infinite where shapes differ, one side only is not finite, or what is no float is not equal.
    """
    return max(_difference(value, found[name]) for name, value in expected.items())


def agreement_ratio(expected: Answers, found: Answers) -> float:
    """Return the share of rows that are predicted alike, of the output where it is least.

    A row of several numbers predicts the class of the greatest. Of two ways to sort rows into
    classes, the accuracies differ by at most the share of rows on which they differ: so this bounds
    the loss of accuracy without knowing any label. One number a row is a regression: there the mean
    difference as a share of the standard deviation of the expected values takes the place of
    disagreement. Other things must be equal.
    """
    return min(_agreement(value, found[name]) for name, value in expected.items())


def _difference(expected: Array, found: Array) -> float:
    if expected.shape != found.shape:
        return math.inf
    if not np.issubdtype(expected.dtype, np.floating):
        return 0.0 if np.array_equal(expected, found) else math.inf
    if np.array_equal(expected, found, equal_nan=True):
        return 0.0
    wide = expected.astype(np.float64)
    largest = np.max(np.abs(found - wide) / np.maximum(np.abs(wide), 1.0))
    return float(largest) if np.isfinite(largest) else math.inf


def _agreement(expected: Array, found: Array) -> float:
    if expected.shape != found.shape:
        return 0.0
    rows = len(expected)
    if not np.issubdtype(expected.dtype, np.floating):
        return float(np.mean((expected == found).reshape(rows, -1).all(axis=1)))
    if expected.ndim > 1 and expected.shape[-1] > 1:
        return float(np.mean(expected.argmax(axis=-1) == found.argmax(axis=-1)))
    spread, error = float(np.std(expected)), float(np.mean(np.abs(found - expected)))
    if error == 0.0:
        return 1.0
    return max(0.0, 1.0 - error / spread) if spread > 0 and math.isfinite(error) else 0.0
