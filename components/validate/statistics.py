"""Statistics of columns, gathered batch by batch in bounded memory.

Bins end at quantiles, which are known at the end only: until then numbers are held apart. Quantiles
and bins of arrays with very many values (images) come from a seeded sample of each batch.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from tfx_bsl.sketches import KmvSketch, MisraGriesSketch, QuantilesSketch

from components.validate.held_numbers import Numbers
from contract.records.record import Record

BINS = 20
MOST_COMMON = 1000
_SKETCH_BUCKETS = 4096  # up to this many different values are counted exactly
_SKETCH_ERROR = 0.001  # of a quantile's rank
_SKETCH_VALUES = 1 << 32  # most values that the sketch is built for
_SAMPLE = 100_000  # values of one batch that quantiles and bins look at


class ColumnStatistics(Record):
    """One column of one split.

    Quantiles are at 0, 1/BINS, ..., 1. `bin_counts` has one more entry than there are `bin_edges`:
    values up to the first edge, up to the second, ..., above the last.
    """

    kind: Literal["numeric", "categorical"]
    rows: int
    missing: int
    values: int
    distinct: int = 0
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
    quantiles: tuple[float, ...] = ()
    bin_edges: tuple[float, ...] = ()
    bin_counts: tuple[int, ...] = ()
    most_common: dict[str, int] = Field({}, description="Counts by category, at most 1,000.")

    @property
    def missing_ratio(self) -> float:
        """Share of rows without a value; 0 of no rows."""
        return self.missing / self.rows if self.rows else 0.0


class DataStatistics(Record):
    """All columns by split, then name; labels are `label:<head>`."""

    splits: dict[str, dict[str, ColumnStatistics]]


class ColumnCollector:
    """Gathers what one pass over a column can tell. Columns are list arrays."""

    def __init__(self, kind: Literal["numeric", "categorical"]) -> None:
        self.kind = kind
        self._rows = self._missing = self._values = 0
        self._minimum, self._maximum = np.inf, -np.inf
        self._mean = self._squares = 0.0
        self._quantiles = QuantilesSketch(_SKETCH_ERROR, _SKETCH_VALUES, 1)
        self._common = MisraGriesSketch(_SKETCH_BUCKETS)
        self._distinct = KmvSketch(_SKETCH_BUCKETS)

    def add(self, column: pa.Array, hold: Callable[[Numbers], None]) -> None:
        """Take in one batch; `hold` is given the numbers that are to be counted in bins."""
        lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        values = column.flatten()
        self._rows += len(column)
        self._missing += int((lengths == 0).sum())
        self._values += len(values)
        if not len(values):
            return
        if self.kind == "categorical":
            self._common.AddValues(values)
            self._distinct.AddValues(values)
        else:
            numbers = values.to_numpy(zero_copy_only=False)
            sampled = sample(numbers)
            self._add_numbers(numbers, sampled)
            hold(sampled)

    def result(self, held: Iterable[Numbers]) -> ColumnStatistics:
        """Return what was gathered; `held` is what was given to be held."""
        found = ColumnStatistics(
            kind=self.kind, rows=self._rows, missing=self._missing, values=self._values
        )
        if not self._values:
            return found
        return found.model_copy(
            update=self._categories() if self.kind == "categorical" else self._numbers(held)
        )

    def _add_numbers(self, values: Numbers, sampled: Numbers) -> None:
        self._quantiles.AddValues(pa.array(sampled))
        self._minimum = min(self._minimum, float(values.min()))
        self._maximum = max(self._maximum, float(values.max()))
        # Chan, Golub and LeVeque (1979): moments of two parts joined without cancellation.
        count = self._values
        mean = float(values.mean(dtype=np.float64))
        squares = float(values.var(dtype=np.float64)) * len(values)
        delta, before = mean - self._mean, count - len(values)
        self._mean += delta * len(values) / count
        self._squares += squares + delta**2 * before * len(values) / count

    def _numbers(self, held: Iterable[Numbers]) -> dict[str, object]:
        quantiles = self._quantiles.GetQuantiles(BINS)[0].values.to_numpy().astype(np.float64)
        edges = tuple(np.unique(quantiles[:-1]).tolist())
        return {
            "minimum": self._minimum,
            "maximum": self._maximum,
            "mean": self._mean,
            "deviation": float(np.sqrt(self._squares / self._values)),
            "quantiles": tuple(quantiles.tolist()),
            "bin_edges": edges,
            "bin_counts": tuple(count_in_bins(held, edges).tolist()),
        }

    def _categories(self) -> dict[str, object]:
        counted = self._common.Estimate()
        names, counts = counted.flatten()
        pairs = zip(names.to_pylist(), counts.to_pylist(), strict=True)
        common = {as_text(name): int(count) for name, count in list(pairs)[:MOST_COMMON]}
        return {"most_common": common, "distinct": int(self._distinct.Estimate())}


def count_in_bins(parts: Iterable[Numbers], edges: Sequence[float]) -> npt.NDArray[np.int64]:
    """Return how many numbers lie in each bin; one on an edge is in the bin below."""
    counts = np.zeros(len(edges) + 1, np.int64)
    upper = np.array(edges)
    for numbers in parts:
        bins = np.searchsorted(upper, numbers, side="left")
        counts += np.bincount(bins, minlength=len(counts))
    return counts


def count_outside(column: pa.Array, domain: pa.Array) -> int:
    """Return how many values are not in a domain of binary values."""
    is_known = pc.is_in(column.flatten(), value_set=domain)
    return len(is_known) - int(pc.sum(is_known).as_py() or 0)


def sample(values: Numbers) -> Numbers:
    """Return all values, or a seeded sample of very many."""
    if len(values) <= _SAMPLE:
        return values
    return np.random.default_rng(0).choice(values, _SAMPLE)


def as_text(value: bytes) -> str:
    """Return a category as text; bytes that are not UTF-8 show as replacement characters."""
    return value.decode(errors="replace")
