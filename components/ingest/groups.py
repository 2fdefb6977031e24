"""Groups of rows, such as those of one user, and in which splits they are.

A group is known by the first eight bytes of its digest.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Groups = npt.NDArray[np.uint64]  # [pairs, 2], rising: a group and the index of a split, each once

NO_GROUPS: Groups = np.empty((0, 2), np.uint64)


def groups_of(
    digests: Sequence[bytes], splits: npt.NDArray[np.int64], is_kept: npt.NDArray[np.bool_]
) -> Groups:
    """Return the groups of the rows that are kept, from their digests and splits."""
    heads = np.frombuffer(b"".join(digest[:8] for digest in digests), ">u8").astype(np.uint64)
    return _unique(np.stack([heads, splits.astype(np.uint64)], axis=1)[is_kept])


def joined(one: Groups, other: Groups) -> Groups:
    """Return the pairs of both, each once."""
    return _unique(np.concatenate([one, other])) if len(other) else one


def parted(groups: Groups) -> tuple[int, int]:
    """Return how many groups are in several splits, and how many there are."""
    _, splits = np.unique(groups[:, 0], return_counts=True)
    return int((splits > 1).sum()), len(splits)


def _unique(pairs: Groups) -> Groups:
    return np.unique(pairs, axis=0)
