"""Centres that cover the rows, and rows that are nearly the same."""

import numpy as np
from numpy.typing import NDArray

from components.labels.choosing.measures import Floats

_SAMPLE = 20_000  # rows among which centres are looked for
_BLOCK = 65_536
_SEED = 20_261_129  # of the hash: the same rows are alike in every process


def centres(vectors: Floats, count: int, random: np.random.Generator) -> Floats:
    """Return rows such that none is far from all of them: each next is the farthest so far.

    Args:
        vectors: Shape ``[rows, dimensions]``; of more than 20,000 a random sample is looked at.
        count: How many; fewer are returned where fewer rows differ.

    Returns:
        ``[centres, dimensions]``; the largest distance is at most twice the smallest possible.

    Source:
        Gonzalez (1985), Clustering to minimize the maximum intercluster distance; as active
        learning: Sener and Savarese (2018), A Core-Set Approach.
    """
    if len(vectors) > _SAMPLE:
        vectors = vectors[random.choice(len(vectors), _SAMPLE, replace=False)]
    chosen = [int(random.integers(len(vectors)))] if len(vectors) else []
    distances = np.full(len(vectors), np.inf)
    while chosen and len(chosen) < count:
        new = ((vectors - vectors[chosen[-1]]) ** 2).sum(axis=1)
        distances = np.minimum(distances, new)
        farthest = int(distances.argmax())
        if distances[farthest] <= 0:
            break
        chosen.append(farthest)
    return vectors[chosen]


def nearest(vectors: Floats, reference: Floats) -> NDArray[np.intp]:
    """Return for each row the place of its nearest reference."""
    squares = (reference**2).sum(axis=1)
    found = np.empty(len(vectors), np.intp)
    for first in range(0, len(vectors), _BLOCK):
        block = vectors[first : first + _BLOCK]
        found[first : first + _BLOCK] = (squares - 2 * block @ reference.T).argmin(axis=1)
    return found


def alike(vectors: Floats, tolerance: float) -> NDArray[np.intp]:
    """Return a number for each row that near duplicates share.

    Rows are the same if they fall into the same cell of a grid whose cells are `tolerance` wide;
    equal rows always are. Two rows nearer than that may lie on both sides of a border, and are
    then asked twice: a grid costs one pass, all pairs would cost a million squared.
    """
    cells = np.floor(vectors / tolerance + 0.5).astype(np.int64) if tolerance > 0 else vectors
    return np.unique(hashed(cells), return_inverse=True)[1].ravel()


def hashed(rows: NDArray[np.generic]) -> NDArray[np.uint64]:
    """Return 64 bits of each row, equal for equal rows.

    A sum of products with random odd numbers, of which the upper bits are mixed into the lower
    ones: among a million rows two different ones are equal with a probability below 1e-6.
    """
    words = np.ascontiguousarray(rows).view(np.uint32).reshape(len(rows), -1)
    factors = np.random.default_rng(_SEED).integers(0, 2**63, words.shape[1], np.uint64) | 1
    found = np.zeros(len(rows), np.uint64)
    for column, factor in enumerate(factors):
        found += words[:, column] * factor
        found ^= found >> np.uint64(29)
    return found
