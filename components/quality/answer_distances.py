"""How far answers to rows are from each other, and how far rounding alone can bring them.

A difference is measured against the largest number of the row's own answer, or against the median
of these over all rows where that is larger: so scores are compared absolutely, values relative to
what is usual, and a value near 0 is not held to digits that float32 does not have.
"""

from typing import Any

import numpy as np

from components.data.raw_examples import Array

_ROUNDING = 2.0**-22  # relative: two units in the last place of a float32 of mantissa 1
_SMALLEST_SCALE = 1e-6  # of answers: below it numbers are taken for noise around 0


def usual_size(answers: Array) -> float:
    """Return the median over the rows of the largest number of each; never 0."""
    if not np.issubdtype(answers.dtype, np.number) or not answers.size:
        return _SMALLEST_SCALE
    return max(float(np.median(_sizes(_wide(answers)))), _SMALLEST_SCALE)


def distances(one: Array, other: Array, usual: float) -> Array:
    """Return by how much each row's answers are apart, float64 `[rows]`.

    NaN is near NaN only. Infinite where shapes, or values that are not numbers, differ.

    Args:
        one: By which sizes are taken, `[rows, ...]`.
        other: The same rows' other answers.
        usual: What `usual_size` returns for all rows.
    """
    if one.shape != other.shape:
        return np.full(len(one), np.inf)
    if not np.issubdtype(one.dtype, np.number):
        is_same = one.reshape(len(one), -1) == other.reshape(len(one), -1)
        return np.where(np.all(is_same, axis=1), 0.0, np.inf)
    wide, near = _wide(one), _wide(other)
    is_same = (wide == near) | (np.isnan(wide) & np.isnan(near))
    with np.errstate(invalid="ignore"):
        apart = np.where(is_same, 0.0, np.abs(wide - near))
    apart = np.where(np.isnan(apart), np.inf, apart)
    return np.asarray(np.max(apart, axis=1, initial=0.0) / np.maximum(_sizes(wide), usual))


def rounded_otherwise(value: Any, random: np.random.Generator) -> Any:
    """Return a feature's value; if it is a float, or floats, with other last digits."""
    if isinstance(value, list):
        return [rounded_otherwise(one, random) for one in value]
    if isinstance(value, float):
        return value * (1.0 + _ROUNDING)
    if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating):
        signs = random.choice([-1.0, 1.0], value.shape)
        return np.asarray(value * (1.0 + _ROUNDING * signs)).astype(value.dtype)
    if isinstance(value, np.floating):
        return value.dtype.type(float(value) * (1.0 + _ROUNDING))
    return value


def _wide(answers: Array) -> Array:
    return answers.reshape(len(answers), -1).astype(np.float64)


def _sizes(wide: Array) -> Array:
    """Return the largest finite magnitude of each row, `[rows]`."""
    finite = np.where(np.isfinite(wide), np.abs(wide), 0.0)
    return np.asarray(np.max(finite, axis=1, initial=0.0))
