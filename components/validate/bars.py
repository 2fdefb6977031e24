"""Bars for a picture: of equal width in values, from bins that hold equally many rows.

In bins of equal count each bar is equally tall, whatever the distribution is. Here each bin's share
is spread over its width, and what is more than an even share lies at the bin's upper edge, as a
value does that very many rows have. Far from the middle 90 % the bars end; the last ones hold the
rest. Numbers of few different values keep their bins: one bar a value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.validate.statistics import BINS

_BARS = 24


@dataclass(frozen=True)
class Axis:
    """The bars' borders, rising, `[bars + 1]`, and where the bins end, `[bins + 1]`."""

    borders: npt.NDArray[np.float64]
    ends: npt.NDArray[np.float64]

    @property
    def labels(self) -> tuple[str, ...]:
        """What each bar holds values up to; the last one: beyond the one before."""
        inner = self.borders[1:-1]
        return (*(f"≤ {border:.4g}" for border in inner), f"> {inner[-1]:.4g}")

    def shares(self, of_bins: Sequence[float]) -> tuple[float, ...]:
        """Return the bars' shares, from those of the bins; their sum is the same."""
        shares = np.asarray(of_bins, np.float64)
        width = np.diff(self.ends)
        spread = np.where(width > 0, np.minimum(shares, shares.sum() / BINS), 0.0)
        below = np.concatenate([[0.0], np.cumsum(spread)])
        bars = np.diff(np.interp(self.borders[1:-1], self.ends, below), prepend=0.0)
        bars = np.append(bars, spread.sum() - bars.sum())
        places = np.searchsorted(self.borders[1:-1], self.ends[1:], side="left")
        np.add.at(bars, places, shares - spread)
        return tuple(bars.tolist())


def value_axis(edges: Sequence[float], low: float, high: float) -> Axis | None:
    """Return the axis of a column with these bins, or None if a bar for each bin shows more.

    Args:
        edges: Upper edges of all bins but the last, rising: the quantiles of the column.
        low: The least value.
        high: The largest.
    """
    if len(edges) <= BINS // 2:
        return None
    ends = np.array([min(low, edges[0]), *edges, max(high, edges[-1])], np.float64)
    middle = edges[-1] - edges[1]
    first, last = max(ends[0], edges[1] - middle), min(ends[-1], edges[-1] + middle)
    return Axis(np.linspace(first, last, _BARS + 1), ends)
