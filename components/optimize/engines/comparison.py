"""How far an engine's answers are from TensorFlow's."""

import math
from collections.abc import Mapping

import numpy as np

from components.data.raw_examples import Array
from components.models.answer_differences import largest_difference
from components.optimize.judging.judgement import agreement, spread

Answers = Mapping[str, Array]


def max_difference(expected: Answers, found: Answers) -> float:
    """Return the largest difference of any answer: absolute below 1 in magnitude, relative above.

    Infinite where shapes differ, one side only is not finite, or what is not a float is not equal.
    """
    return max(_difference(value, found[name]) for name, value in expected.items())


def agreement_ratio(expected: Answers, found: Answers) -> float:
    """Return the share of rows that are predicted alike, of the output where it is least.

    Classes are those of `judgement.agreement`. Of two ways to sort rows into classes, the
    accuracies differ by at most the share of rows on which they differ: so this bounds the loss of
    accuracy without knowing any label. Where an output is not a class, `judgement.spread` takes the
    place of disagreement.
    """
    return min(_agreement(value, found[name]) for name, value in expected.items())


def _difference(expected: Array, found: Array) -> float:
    if expected.shape != found.shape:
        return math.inf
    if not np.issubdtype(expected.dtype, np.floating):
        return 0.0 if np.array_equal(expected, found) else math.inf
    return largest_difference(expected, found)


def _agreement(expected: Array, found: Array) -> float:
    if expected.shape != found.shape:
        return 0.0
    same = agreement(expected, found)
    if same is not None:
        return same
    lost = spread(expected, found)
    return max(0.0, 1.0 - lost) if math.isfinite(lost) else 0.0
