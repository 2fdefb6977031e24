"""A short vector for each logged row, made from its inputs: near rows have near vectors."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from components.labels.choosing.measures import Floats
from contract.prediction_log.columns import INPUT
from contract.schema.data import FeatureConfig

DIMENSIONS = 16  # of a sketch; distances are kept within some 25 % of each other
SCALING_ROWS = 1_000  # the first ones, which say how large the numbers of a feature are

_OUTER = 0.01  # share of the smallest and of the largest numbers, which do not set the scale
_MOST_NUMBERS = 1_000_000  # by which the scale is found
_LEAST_SCALE = float(np.finfo(np.float32).tiny)
_FARTHEST = 1e4  # standard deviations, so that a sum of squares stays a float32
_BLOCK = 8_192  # rows that are projected at once


class Sketches:
    """Sketches rows, file after file; the first rows say how large the numbers of a feature are.

    Numbers are divided by their standard deviation without outliers and projected at random, which
    nearly keeps distances (Johnson and Lindenstrauss 1984); text and lists of any length have a
    random vector for each different value, so that they are equal or far.
    """

    def __init__(self, features: Mapping[str, FeatureConfig]) -> None:
        self._features = features
        self._scales: dict[str, float] = {}

    def scale_by(self, tables: Sequence[pa.Table]) -> None:
        """Take the scales of the first rows, whatever files they are in: files are merged."""
        for name, feature in self._features.items():
            if feature.dtype == "string" or feature.is_variable_length:
                continue
            parts, left = list[Floats](), SCALING_ROWS
            for table in tables:
                numbers = _matrix(table[INPUT + name].combine_chunks(), table.num_rows)[:left]
                parts.append(numbers.ravel())
                left -= len(numbers)
            self._scales[name] = _scale(np.concatenate(parts)) if parts else 1.0

    def of(self, table: pa.Table) -> Floats:
        """Return the vectors of rows that have all their inputs, ``[rows, DIMENSIONS]``.

        Without scales, those of these rows are taken.
        """
        found: Floats = np.zeros((table.num_rows, DIMENSIONS), np.float32)
        for name, feature in self._features.items():
            column = table[INPUT + name].combine_chunks()
            if feature.dtype == "string" or feature.is_variable_length:
                found += _of_values(column)
            else:
                found += self._of_numbers(name, _matrix(column, table.num_rows))
        found /= np.float32(max(len(self._features), 1))
        return found

    def _of_numbers(self, name: str, numbers: Floats) -> Floats:
        if name not in self._scales and len(numbers):
            self._scales[name] = _scale(numbers)
        random = np.random.default_rng(zlib.crc32(name.encode()))
        width = max(numbers.shape[1], 1)
        projection = random.standard_normal((numbers.shape[1], DIMENSIONS))
        projection /= np.sqrt(width * DIMENSIONS)
        found: Floats = np.empty((len(numbers), DIMENSIONS), np.float32)
        for first in range(0, len(numbers), _BLOCK):
            block = numbers[first : first + _BLOCK]
            with np.errstate(over="ignore"):  # what is beyond a float32 is far
                units = np.nan_to_num(block) / np.float32(self._scales.get(name, 1.0))
            near = np.clip(units, -_FARTHEST, _FARTHEST)
            # Sums of float64 are the same float32 in whichever block a row is.
            found[first : first + _BLOCK] = near.astype(np.float64) @ projection
        return found


def _scale(numbers: Floats) -> float:
    """Return the standard deviation of the finite numbers, clipped to 98 % of them.

    Without the clip one outlier would make all others equal. If more than 98 % are the same value,
    it is the median distance of the others from it; 1 if there are no others.
    """
    some = numbers[:: 1 + numbers.size // _MOST_NUMBERS].astype(np.float64)
    values = some[np.isfinite(some)]
    if not len(values):
        return 1.0
    low = np.quantile(values, _OUTER, method="higher")
    high = np.quantile(values, 1 - _OUTER, method="lower")
    if low < high:
        return max(float(np.clip(values, low, high).std()), _LEAST_SCALE)
    distances = np.abs(values - np.median(values))
    others = distances[distances > 0]
    if not len(others):
        return 1.0
    return max(float(np.quantile(others, 0.5, method="lower")), _LEAST_SCALE)


def _matrix(column: pa.Array, rows: int) -> Floats:
    while pa.types.is_list(column.type):
        column = column.flatten()
    numbers = column.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    found: Floats = numbers.reshape(rows, -1)
    return found


def _of_values(column: pa.Array) -> Floats:
    """Return a random vector for each different value, the same in every process."""
    if pa.types.is_nested(column.type):
        column = pa.array([repr(value) for value in column.to_pylist()], pa.string())
    encoded = column.dictionary_encode()
    known = [str(value).encode() for value in encoded.dictionary.to_pylist()] or [b""]
    vectors = [
        np.random.default_rng(zlib.crc32(value)).standard_normal(DIMENSIONS) for value in known
    ]
    table = np.array(vectors, np.float32) / np.float32(np.sqrt(DIMENSIONS))
    found: Floats = table[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    return found
