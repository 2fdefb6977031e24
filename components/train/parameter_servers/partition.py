"""Which parameter server holds which part of which variable."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.train.peers.wire import Array


@dataclass(frozen=True)
class Slice:
    """Rows `start` to `stop` of one variable (of its first axis), on one server."""

    variable: int
    start: int
    stop: int
    server: int
    is_whole: bool

    def of(self, value: Array) -> Array:
        """Cut it out of the variable's value."""
        return value if self.is_whole else value[self.start : self.stop]


def partition(shapes: Sequence[tuple[int, ...]], servers: int, largest_bytes: float) -> list[Slice]:
    """Divide float32 variables among servers, the same way every time.

    A variable larger than `largest_bytes` is cut along its first axis, into no more parts than it
    has rows; the largest parts are placed first, each on the server that holds the least.

    Returns:
        The slices by variable, then by row.
    """
    parts: list[tuple[int, int, int, int]] = []  # bytes, variable, start, stop
    for variable, shape in enumerate(shapes):
        size = 4 * int(np.prod(shape, dtype=np.int64))
        rows = shape[0] if shape else 1
        count = min(rows, max(1, int(np.ceil(size / largest_bytes)))) or 1
        bounds = [rows * part // count for part in range(count + 1)]
        for start, stop in itertools.pairwise(bounds):
            parts.append((size * (stop - start) // max(rows, 1), variable, start, stop))
    loads = [0] * servers
    placed = []
    for size, variable, start, stop in sorted(parts, key=lambda p: (-p[0], p[1], p[2])):
        server = loads.index(min(loads))
        loads[server] += size
        shape = shapes[variable]
        is_whole = not shape or (start, stop) == (0, shape[0])
        placed.append(Slice(variable, start, stop, server, is_whole))
    return sorted(placed, key=lambda one: (one.variable, one.start))


def joined(slices: Sequence[Slice], values: Sequence[Array]) -> dict[int, Array]:
    """Put slices of variables together again; return the variables by number."""
    by_variable: dict[int, list[Array]] = {}
    for one, value in zip(slices, values, strict=True):
        by_variable.setdefault(one.variable, []).append(value)
    return {
        number: parts[0] if len(parts) == 1 else np.concatenate(parts)
        for number, parts in by_variable.items()
    }
