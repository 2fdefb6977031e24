"""How far answers of a model are apart: the one measure of every tolerance on answers.

`components.quality.answer_distances` measures a row against its own or the usual size instead: it
looks for a dependence, and must not take the rounding of large numbers for one.
"""

import numpy as np

from components.data.raw_examples import Array


def differences(expected: Array, found: Array) -> Array:
    """Return how far numbers are apart, float64 of their shape: absolute below 1, relative above.

    The size that decides is the expected one's. What is equal is 0 apart, also infinity and NaN;
    NaN beside a number, and a number beside infinity, are infinitely far apart.
    """
    wide, other = expected.astype(np.float64), found.astype(np.float64)
    is_same = (wide == other) | (np.isnan(wide) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        apart = np.abs(other - wide) / np.maximum(np.abs(wide), 1.0)
    return np.where(is_same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def largest_difference(expected: Array, found: Array) -> float:
    """Return the largest of the differences; 0 of nothing."""
    return float(np.max(differences(expected, found), initial=0.0))
