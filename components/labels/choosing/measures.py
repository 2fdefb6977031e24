"""How much a label of each row is worth, from 0 to 1, before anybody has labelled it."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_BLOCK = 65_536  # rows whose distances are in memory at once


def least_confidence(scores: Floats) -> Floats:
    """Return how far the best class is from certain.

    Args:
        scores: Probabilities, shape ``[rows, classes]``, at least two classes.

    Returns:
        ``[rows]``: 0 where a class has probability 1, and 1 where all classes have the same.

    Source:
        Settles (2009), Active Learning Literature Survey, section 3.1; scaled to reach 1.
    """
    classes = scores.shape[1]
    found: Floats = np.clip((1 - scores.max(axis=1)) * (classes / (classes - 1)), 0, 1)
    return found


def margin(scores: Floats) -> Floats:
    """Return 1 minus the distance between the two best classes, shape ``[rows]``.

    Source:
        Scheffer, Decomain and Wrobel (2001), Active Hidden Markov Models.
    """
    best = np.partition(scores, -2, axis=1)[:, -2:]
    found: Floats = np.clip(1 - (best[:, 1] - best[:, 0]), 0, 1)
    return found


def entropy(scores: Floats) -> Floats:
    """Return the entropy over its largest value, the logarithm of the number of classes.

    Source:
        Shannon (1948); a class of probability 0 adds nothing.
    """
    safe = np.where(scores > 0, scores, 1)
    nats = -(scores * np.log(safe)).sum(axis=1)
    found: Floats = np.clip(nats / np.log(scores.shape[1]), 0, 1).astype(np.float32)
    return found


def disagreement(scores: Floats, others: Floats) -> Floats:
    """Return the total variation distance between two versions' scores, shape ``[rows]``.

    0 where both say the same, 1 where they give no class together any probability.
    """
    found: Floats = np.clip(np.abs(scores - others).sum(axis=1) / 2, 0, 1)
    return found


def novelty(vectors: Floats, reference: Floats) -> Floats:
    """Return the distance to the nearest reference, over the largest such distance.

    Args:
        vectors: Shape ``[rows, dimensions]``.
        reference: Shape ``[references, dimensions]``, at least one.

    Returns:
        ``[rows]``; all 0 where every row is a reference.
    """
    squares = (reference**2).sum(axis=1)
    found = np.empty(len(vectors), np.float32)
    for first in range(0, len(vectors), _BLOCK):
        block = vectors[first : first + _BLOCK]
        distances = (block**2).sum(axis=1)[:, None] - 2 * block @ reference.T + squares
        found[first : first + _BLOCK] = np.sqrt(np.maximum(distances.min(axis=1), 0))
    return found / max(float(found.max(initial=0)), 1e-12)
