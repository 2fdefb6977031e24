"""How far this run's train split is from the last run's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from components.validate.bars import Axis, value_axis
from components.validate.scan import Scan
from components.validate.statistics import ColumnStatistics, DataStatistics

MISSING = "(missing)"
OTHER = "(other)"
_CATEGORIES = 100  # those beyond are counted together


@dataclass(frozen=True)
class Drift:
    """Two distributions over the same bins, as shares of rows, and their distance in [0, 1].

    `axis` says how the bins of numbers are drawn, except that of missing values; None: unchanged.
    """

    bins: tuple[str, ...]
    before: tuple[float, ...]
    now: tuple[float, ...]
    distance: float
    axis: Axis | None = None


def jensen_shannon_distance(
    before: Sequence[float] | npt.NDArray[np.generic],
    now: Sequence[float] | npt.NDArray[np.generic],
) -> float:
    """Return the Jensen-Shannon distance (base 2) of two histograms over the same bins.

    0 for equal shares, 1 for no bin in common; 0 if either has no counts at all.

    Source:
        Lin (1991), IEEE Transactions on Information Theory 37(1), for the divergence; Endres and
        Schindelin (2003), same journal 49(7), for its root being a metric.
    """
    from scipy.spatial.distance import jensenshannon

    if not np.sum(before) or not np.sum(now):
        return 0.0
    # Rounding may leave a divergence a hair below 0, whose root is not a number.
    return float(np.nan_to_num(jensenshannon(before, now, base=2)))


def measure_drift(scan: Scan, last: DataStatistics) -> dict[str, Drift]:
    """Return the drift of every column that both runs have, in the same kind.

    Numbers are compared in the last run's bins, categories by value; a missing value counts as a
    value of its own.
    """
    drifts = {}
    for name, now in scan.statistics.splits["train"].items():
        before = last.splits.get("train", {}).get(name)
        if before is None or before.kind != now.kind or not before.rows or not now.rows:
            continue
        if now.kind == "categorical":
            drifts[name] = _of_categories(before, now)
        elif name in scan.counts_in_old_bins:
            drifts[name] = _of_numbers(before, now, scan.counts_in_old_bins[name])
    return drifts


def _of_numbers(
    before: ColumnStatistics, now: ColumnStatistics, counts: npt.NDArray[np.int64]
) -> Drift:
    edges = [f"≤ {edge:.4g}" for edge in before.bin_edges]
    bins = (*edges, f"> {before.bin_edges[-1]:.4g}", MISSING)
    drift = _drift(
        bins,
        [*_scaled(before.bin_counts, before), before.missing],
        [*_scaled(counts.tolist(), now), now.missing],
    )
    values = [v for one in (before, now) for v in (one.minimum, one.maximum) if v is not None]
    return replace(drift, axis=value_axis(before.bin_edges, min(values), max(values)))


def _of_categories(before: ColumnStatistics, now: ColumnStatistics) -> Drift:
    names = list(dict.fromkeys([*_first(before), *_first(now)]))

    def counts(column: ColumnStatistics) -> list[float]:
        known = [column.most_common.get(name, 0) for name in names]
        return [*known, max(0, column.values - sum(known)), column.missing]

    return _drift((*names, OTHER, MISSING), counts(before), counts(now))


def _first(column: ColumnStatistics) -> list[str]:
    return list(column.most_common)[:_CATEGORIES]


def _scaled(counts: Sequence[int], column: ColumnStatistics) -> list[float]:
    """Return counts of a sample as of all values, so that they stand beside `missing`."""
    total = sum(counts)
    return [count * column.values / total if total else 0.0 for count in counts]


def _drift(bins: tuple[str, ...], before: Sequence[float], now: Sequence[float]) -> Drift:
    def shares(counts: Sequence[float]) -> tuple[float, ...]:
        total = sum(counts) or 1.0
        return tuple(count / total for count in counts)

    return Drift(bins, shares(before), shares(now), jensen_shannon_distance(before, now))
