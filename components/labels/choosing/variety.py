"""Centres that cover the rows, and rows that are nearly the same."""

import numpy as np
from numpy.typing import NDArray

from components.labels.choosing.measures import Floats

_SAMPLE = 20_000  # rows among which centres are looked for
_LEAST_SCORE = 1e-6  # what is rarer is as rare: rows of which the model is certain look alike
_BLOCK = 65_536
_SEED = 20_261_129  # of the hash: the same rows are alike in every process


def last_layer(scores: Floats) -> Floats:
    """Return the values of the last layer, of which softmax has made the scores.

    Softmax takes away what all classes have in common: the values of a row have a mean of 0 here.

    Args:
        scores: Shape ``[rows, classes]``.

    Source:
        Sener and Savarese (2018), whose distance of two rows is that of their activations in the
        last fully connected layer.
    """
    logs: Floats = np.log(np.maximum(scores, _LEAST_SCORE))
    logs -= logs.mean(axis=1, keepdims=True)
    return logs


def groups_of(
    sketches: Floats,
    scores: Floats,
    rows: NDArray[np.intp],
    count: int,
    random: np.random.Generator,
) -> NDArray[np.intp]:
    """Return for each of some rows the number of the centre that is nearest to it.

    Rows are near if the model's last layer is, and their inputs: of two classes the last layer
    alone has no more than the score. Both have about the same share in a distance.

    Args:
        sketches: Of the inputs of all rows, ``[all rows, dimensions]``.
        scores: Probabilities of all rows, ``[all rows, classes]``.
        rows: Those of them that are looked at.
        count: Of centres, at most; of more than 20,000 rows they are those of a random sample.
        random: Where the sample and the first centre come from.
    """
    is_many = len(rows) > _SAMPLE
    sample = rows[random.choice(len(rows), _SAMPLE, replace=False)] if is_many else rows
    layer = last_layer(scores[sample])
    unit = np.float32(max(float(layer.std()), _LEAST_SCORE) * np.sqrt(layer.shape[1]))

    def look(some: NDArray[np.intp]) -> Floats:
        return np.hstack([sketches[some], last_layer(scores[some]) / unit])

    found = centres(look(sample), count, random)
    blocks = [rows[first : first + _BLOCK] for first in range(0, len(rows), _BLOCK)]
    return np.concatenate([nearest(look(block), found) for block in blocks])


def centres(vectors: Floats, count: int, random: np.random.Generator) -> Floats:
    """Return rows such that none is far from all of them: each next is the farthest so far.

    Args:
        vectors: Shape ``[rows, dimensions]``.
        count: How many; fewer are returned where fewer rows differ.

    Returns:
        ``[centres, dimensions]``; the largest distance is at most twice the smallest possible.

    Source:
        Gonzalez (1985), Clustering to minimize the maximum intercluster distance; as active
        learning: Sener and Savarese (2018), A Core-Set Approach.
    """
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
    found: NDArray[np.intp] = (squares - 2 * vectors @ reference.T).argmin(axis=1)
    return found


def cells(vectors: Floats, tolerance: float) -> NDArray[np.uint64]:
    """Return a number for each row that near duplicates share, in every process.

    Rows are the same if they fall into the same cell of a grid whose cells are `tolerance` wide;
    equal rows always are. Two rows nearer than that may lie on both sides of a border, and are
    then asked twice: a grid costs one pass, all pairs would cost a million squared.
    """
    if tolerance <= 0:
        return hashed(vectors)
    return hashed(np.floor(vectors / tolerance + 0.5).astype(np.int64))


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
