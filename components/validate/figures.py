"""One picture of a run's data: each column's distribution, beside the last run's."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.validate.bars import value_axis
from components.validate.drift import Drift
from components.validate.statistics import ColumnStatistics

_MOST_COLUMNS = 30
_BARS = 25  # of numbers 24 and the missing ones
_WIDTH = 4


def draw_distributions(
    columns: Mapping[str, ColumnStatistics], drifts: Mapping[str, Drift], last_run: str
) -> Figure:
    """Draw the train split, one small chart a column (at most 30): shares of rows by value.

    Numbers are in bars of equal width. Columns with a drift show both runs, most drifted first.
    """
    names = sorted(columns, key=lambda n: -drifts[n].distance if n in drifts else 1.0)
    names = names[:_MOST_COLUMNS]
    rows = math.ceil(len(names) / _WIDTH)
    figure = Figure(figsize=(4.2 * min(_WIDTH, len(names)), 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, min(_WIDTH, len(names)), squeeze=False).ravel()
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes, names, strict=False):
        drift = drifts.get(name)
        bins, now = _drawn(drift, drift.now) if drift else _shares(columns[name])
        title = name
        if drift:
            title = f"{name}   distance {drift.distance:.3f}"
            _, before = _drawn(drift, drift.before)
            axis.step(range(len(bins[:_BARS])), before[:_BARS], "k", where="mid", lw=1)
        axis.bar(range(len(bins[:_BARS])), now[:_BARS], color="#4c8bb0")
        axis.set_title(title, fontsize=9)
        _label(axis, bins[:_BARS])
    compared = f"; line: last run, {last_run}" if drifts else ""
    figure.suptitle(f"Train split, shares by value{compared}", fontsize=10)
    return figure


def _shares(column: ColumnStatistics) -> tuple[tuple[str, ...], tuple[float, ...]]:
    if column.kind == "categorical":
        bins: Sequence[str] = list(column.most_common)
        counts: Sequence[int] = list(column.most_common.values())
    else:
        bins = [f"≤ {edge:.4g}" for edge in column.bin_edges] + ["above"]
        counts = column.bin_counts
    total = sum(counts) or 1
    shares = tuple(count / total for count in counts)
    if column.minimum is None or column.maximum is None:
        return tuple(bins), shares
    axis = value_axis(column.bin_edges, column.minimum, column.maximum)
    return (tuple(bins), shares) if axis is None else (axis.labels, axis.shares(shares))


def _drawn(drift: Drift, shares: tuple[float, ...]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the bars of one of the two distributions; the last one is that of missing values."""
    if drift.axis is None:
        return drift.bins, shares
    return (*drift.axis.labels, drift.bins[-1]), (*drift.axis.shares(shares[:-1]), shares[-1])


def _label(axis: Axes, bins: Sequence[str]) -> None:
    every = max(1, len(bins) // 6)
    places = list(range(0, len(bins), every))
    axis.set_xticks(places, [bins[place][:12] for place in places], rotation=30, fontsize=6)
    axis.tick_params(axis="y", labelsize=6)
