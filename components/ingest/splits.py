"""Which split a row belongs to: only its key's digest decides, so it never changes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from contract.schema.data import SPLITS, SplitConfig


def split_bounds(split: SplitConfig, has_test_source: bool) -> tuple[float, float]:
    """Return the upper bounds of `train` and of `eval` on [0, 1]; the rest is `test`.

    If the test split is a separate file, no other row is put into it: `train` and `eval`
    share the whole in proportion.
    """
    if not has_test_source:
        return split.train, split.train + split.eval
    return split.train / (split.train + split.eval), 1.0


def choose_splits(keys: Sequence[bytes], bounds: tuple[float, float]) -> npt.NDArray[np.int64]:
    """Return the index into SPLITS of each key, a sha256 digest.

    The first eight bytes, big-endian, as a share of 2**64 are the row's place on [0, 1).
    """
    heads = np.frombuffer(b"".join(key[:8] for key in keys), ">u8")
    places = heads.astype(np.float64) / 2.0**64
    chosen = np.searchsorted(np.array(bounds), places, side="right")
    if bounds[1] >= 1.0 - 1e-12:
        # The largest digests round to 1.0 as floats: they are not to open a split of no size.
        chosen = np.minimum(chosen, SPLITS.index("eval"))
    return chosen.astype(np.int64)
