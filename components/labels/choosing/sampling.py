"""Random choices in which the probability of each row is known exactly."""

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Places = NDArray[np.intp]


def proportional(sizes: Doubles, count: float) -> Doubles:
    """Return probabilities in proportion to sizes, none above 1, which sum to `count`.

    Args:
        sizes: What each row is worth, at least 0, shape ``[rows]``.
        count: How many rows are wanted on average; at most as many as have a size above 0.

    Returns:
        ``[rows]``. Where a row's share is above 1 it is certain, and the others share the rest.

    Source:
        Särndal, Swensson and Wretman (1992), Model Assisted Survey Sampling, section 3.6.2.
    """
    found = np.zeros(len(sizes))
    is_open = sizes > 0
    count = min(count, float(is_open.sum()))
    while is_open.any():
        shares = np.where(is_open, sizes, 0.0)
        shares *= (count - (found == 1).sum()) / shares.sum()
        is_certain = is_open & (shares >= 1)
        if not is_certain.any():
            return np.where(is_open, shares, found)
        found[is_certain] = 1
        is_open &= ~is_certain
    return found


def systematic(probabilities: Doubles, start: float) -> Places:
    """Choose rows, each with its own probability, evenly along their order.

    The probabilities are laid end to end, and a row is chosen if one of the points `start`,
    `start + 1`, ... falls into its stretch. Neighbours are seldom chosen together, so that an
    order by likeness spreads the choice. Between `floor(sum)` and `ceil(sum)` rows are chosen.

    Args:
        probabilities: From 0 to 1, shape ``[rows]``.
        start: A random number, uniform in [0, 1).

    Returns:
        Places of the chosen rows, rising.

    Source:
        Madow (1949), On the theory of systematic sampling II, Annals of Mathematical Statistics 20.
    """
    ends = np.ceil(np.cumsum(probabilities) - start)
    return np.flatnonzero(np.diff(ends, prepend=np.ceil(-start)) > 0)


def either(one: Doubles, other: Doubles) -> Doubles:
    """Return the probability that at least one of two independent choices takes a row."""
    return 1 - (1 - one) * (1 - other)
