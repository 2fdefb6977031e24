"""One picture of a run's data: all columns in one chart, and charts of those that differ."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.validate.bars import value_axis
from components.validate.drift import Drift
from components.validate.statistics import ColumnStatistics

_MOST_LINES = 60  # of the overview
_MOST_CHARTS = 30
_BARS = 25  # of numbers 24 and the missing ones
_WIDTH = 4
_LINE_INCHES = 0.16


def draw_distributions(
    columns: Mapping[str, ColumnStatistics],
    drifts: Mapping[str, Drift],
    told: Collection[str],
    last_run: str,
) -> Figure:
    """Draw the train split: an overview, a line a column (at most 60), most drifted first.

    Columns in `told` (at most 30) have a small chart each: shares of rows by value, beside those of
    the last run. Numbers are in bars of equal width.
    """
    names = sorted(columns, key=lambda n: -drifts[n].distance if n in drifts else 1.0)
    charts = [name for name in names if name in told][:_MOST_CHARTS]
    rows = math.ceil(len(charts) / _WIDTH)
    height = 1.2 + _LINE_INCHES * min(len(names), _MOST_LINES)
    figure = Figure(figsize=(4.2 * _WIDTH, height + 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + rows, _WIDTH, height_ratios=[height, *[2.6] * rows])
    _draw_overview(figure.add_subplot(grid[0, :]), columns, drifts, names[:_MOST_LINES])
    for place, name in enumerate(charts):
        axes = figure.add_subplot(grid[1 + place // _WIDTH, place % _WIDTH])
        _draw_chart(axes, name, columns[name], drifts.get(name))
    compared = f"; line: last run, {last_run}" if drifts and charts else ""
    figure.suptitle(f"Train split, shares by value{compared}", fontsize=10)
    return figure


# --- inside -------------------------------------------------------------------------------------


def _draw_overview(
    axes: Axes,
    columns: Mapping[str, ColumnStatistics],
    drifts: Mapping[str, Drift],
    names: Sequence[str],
) -> None:
    """Draw a line a column: the larger a bar's share of the column's largest, the darker it is."""
    shown = np.zeros((len(names), _BARS))
    for line, name in enumerate(names):
        shares = np.array(_shares(columns[name])[1][:_BARS])
        shown[line, : len(shares)] = shares / max(float(shares.max(initial=0.0)), 1e-12)
    axes.imshow(shown, cmap="Blues", aspect="auto", interpolation="nearest", vmin=0.0, vmax=1.0)
    labels = [_told(name, columns[name], drifts.get(name)) for name in names]
    axes.set_yticks(range(len(names)), labels, fontsize=7)
    axes.set_xticks([])
    left_out = len(columns) - len(names)
    values = "least value or commonest category to the left"
    axes.set_xlabel(values + (f"; {left_out} more columns" if left_out else ""), fontsize=7)


def _told(name: str, column: ColumnStatistics, drift: Drift | None) -> str:
    missing = f"   missing {column.missing_ratio:.1%}" if column.missing else ""
    return f"{name}{missing}" + (f"   distance {drift.distance:.3f}" if drift else "")


def _draw_chart(axes: Axes, name: str, column: ColumnStatistics, drift: Drift | None) -> None:
    bins, now = _drawn(drift, drift.now) if drift else _shares(column)
    title = name
    if drift:
        title = f"{name}   distance {drift.distance:.3f}"
        _, before = _drawn(drift, drift.before)
        axes.step(range(len(bins[:_BARS])), before[:_BARS], "k", where="mid", lw=1)
    axes.bar(range(len(bins[:_BARS])), now[:_BARS], color="#4c8bb0")
    axes.set_title(title, fontsize=9)
    _label(axes, bins[:_BARS])


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


def _label(axes: Axes, bins: Sequence[str]) -> None:
    every = max(1, len(bins) // 6)
    places = list(range(0, len(bins), every))
    axes.set_xticks(places, [bins[place][:12] for place in places], rotation=30, fontsize=6)
    axes.tick_params(axis="y", labelsize=6)
