"""Bars of equal width from bins of equal count, by hand arithmetic."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from components.validate.bars import value_axis
from components.validate.drift import Drift
from components.validate.figures import draw_distributions
from components.validate.statistics import ColumnStatistics

EVEN = (0.0, *[0.05] * 20)  # shares of the 21 bins: up to the least value, then 5 % each


def column(values: np.ndarray) -> ColumnStatistics:
    """Return the statistics of numbers, as one pass with exact quantiles would find them."""
    edges = np.unique(np.quantile(values, np.arange(20) / 20))
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
    return ColumnStatistics(
        kind="numeric",
        rows=len(values),
        missing=0,
        values=len(values),
        minimum=float(values.min()),
        maximum=float(values.max()),
        bin_edges=tuple(edges.tolist()),
        bin_counts=tuple(counts.tolist()),
    )


def test_even_values_have_even_bars() -> None:
    axis = value_axis([5.0 * n for n in range(20)], 0.0, 100.0)
    assert axis is not None
    assert axis.shares(EVEN) == pytest.approx([1 / 24] * 24)
    assert axis.labels[0] == "≤ 4.167"
    assert axis.labels[-1] == "> 95.83"


def test_a_bin_twice_as_wide_is_half_as_tall() -> None:
    """Ten bins of 1 and ten of 2: bars of 30 / 24 hold 0.0625 and 0.03125."""
    edges = [*map(float, range(10)), *(10.0 + 2 * n for n in range(10))]
    axis = value_axis(edges, 0.0, 30.0)
    assert axis is not None
    assert axis.shares(EVEN) == pytest.approx([0.0625] * 8 + [0.03125] * 16)


def test_a_value_that_very_many_rows_have_is_one_tall_bar() -> None:
    """A third of the rows are 0: nothing of them is spread over the bar's neighbours."""
    edges = [0.0, *(10.0 * n for n in range(1, 14))]
    axis = value_axis(edges, 0.0, 140.0)
    assert axis is not None
    shares = axis.shares([0.35, *[0.05] * 13, 0.0])
    assert shares[0] == pytest.approx(0.35 + 0.05 * (140 / 24) / 10)
    assert sum(shares) == pytest.approx(1.0)


def test_values_far_away_are_in_the_last_bar() -> None:
    axis = value_axis([5.0 * n for n in range(20)], 0.0, 1e6)
    assert axis is not None
    assert axis.borders[-1] == 95.0 + 90.0
    assert axis.shares(EVEN)[-1] == pytest.approx(0.05, rel=1e-3)


def test_few_different_values_keep_a_bar_each() -> None:
    assert value_axis([0.0, 1.0, 2.0], 0.0, 2.0) is None


def heights(values: np.ndarray, drifts: dict[str, Drift]) -> list[float]:
    _, axes = draw_distributions({"x": column(values)}, drifts, {"x"}, "").axes
    return bars(axes)


def bars(axes: Axes) -> list[float]:
    return [bar.get_height() for bar in axes.patches if isinstance(bar, Rectangle)]


def test_a_picture_of_a_bell_is_a_bell() -> None:
    """In bins of equal count it was flat."""
    found = heights(np.random.default_rng(0).normal(size=20_000), {})
    middle, at_two = max(found), found[len(found) // 2 + 5]
    assert found.index(middle) in (11, 12, 13)
    assert at_two < middle / 3


def test_both_runs_are_drawn_over_the_same_bars() -> None:
    now = tuple(float(n == 20) for n in range(22))  # all beyond the last run's largest quantile
    axis = value_axis([5.0 * n for n in range(20)], 0.0, 100.0)
    drift = Drift(("",) * 21 + ("(missing)",), (*EVEN, 0.0), now, 1.0, axis)
    values = np.linspace(0, 100, 500)
    _, axes = draw_distributions({"x": column(values)}, {"x": drift}, {"x"}, "yesterday").axes
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == pytest.approx([*[1 / 24] * 24, 0.0])
    *_, last, missing = bars(axes)
    # 5 % spread from 95 to 100, of which the bar has 100 / 24; the rest at the bin's upper edge
    assert last == pytest.approx(0.95 + 0.05 * (100 / 24) / 5)
    assert missing == 0.0
