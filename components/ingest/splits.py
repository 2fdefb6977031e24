"""Which split a row belongs to, by its own values alone: a hash, a column that says it, or a time.

A hash never changes, so a row stays where it is. Cut points in time that follow from shares are
those between two different times that come nearest to the shares: rows of one time stay together,
and no row of an earlier split is newer than one of a later split.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.data.raw_rows import ParsedRows
from contract.errors import DataError
from contract.schema.data import SPLITS, IngestConfig
from contract.schema.split import SplitConfig, microseconds

Indices = npt.NDArray[np.int64]
_EVAL, _TEST = SPLITS.index("eval"), SPLITS.index("test")


@dataclass(frozen=True)
class SplitRule:
    """How rows of the main source are assigned to splits.

    Attributes:
        bounds: Upper bounds of `train` and `eval` on [0, 1), where a hash decides.
        cuts: The first times of `eval` and `test` in microseconds, where the time decides.
        is_named: Whether the rows name their split.
    """

    bounds: tuple[float, float] = (0.0, 0.0)
    cuts: tuple[int, ...] = ()
    is_named: bool = False

    def choose(self, rows: ParsedRows) -> Indices:
        """Return each row's index into SPLITS."""
        if rows.marks is None:
            return choose_splits(rows.groups, self.bounds)
        if self.is_named:
            return rows.marks
        return np.searchsorted(np.array(self.cuts, np.int64), rows.marks, side="right")


def split_rule(ingest: IngestConfig, times: Callable[[], Iterable[Indices]]) -> SplitRule:
    """Return the rule of a config.

    Args:
        ingest: The section that has the split.
        times: Reads the times of all rows in batches; called only where cut points depend on them.

    Raises:
        DataError: If there are too few different times to cut between.
    """
    split, has_test_source = ingest.split, ingest.test_source is not None
    match split.by:
        case "hash":
            return SplitRule(bounds=split_bounds(split, has_test_source))
        case "column":
            return SplitRule(is_named=True)
        case "time":
            said = [one for one in (split.eval_from, split.test_from) if one is not None]
            if said:
                return SplitRule(cuts=tuple(microseconds(moment) for moment in said))
            shares = time_shares(split, has_test_source)
            return SplitRule(cuts=time_cuts(np.concatenate([*times(), []]), shares))


def split_bounds(split: SplitConfig, has_test_source: bool) -> tuple[float, float]:
    """Return the upper bounds of `train` and of `eval` on [0, 1]; the rest is `test`.

    If the test split is a separate file, no other row is put into it: `train` and `eval`
    share the whole in proportion.
    """
    if not has_test_source:
        return split.train, split.train + split.eval
    return split.train / (split.train + split.eval), 1.0


def choose_splits(keys: Sequence[bytes], bounds: tuple[float, float]) -> Indices:
    """Return the index into SPLITS of each key, a sha256 digest.

    The first eight bytes, big-endian, as a share of 2**64 are the row's place on [0, 1).
    """
    heads = np.frombuffer(b"".join(key[:8] for key in keys), ">u8")
    places = heads.astype(np.float64) / 2.0**64
    chosen = np.searchsorted(np.array(bounds), places, side="right")
    if bounds[1] >= 1.0 - 1e-12:
        # The largest digests round to 1.0 as floats: they are not to open a split of no size.
        chosen = np.minimum(chosen, _EVAL)
    return chosen.astype(np.int64)


def time_shares(split: SplitConfig, has_test_source: bool) -> tuple[float, ...]:
    """Return the shares of the rows that are older than each cut point."""
    if split.last is None:
        bounds = split_bounds(split, has_test_source)
        return bounds[:1] if has_test_source else bounds
    train = 1.0 - split.last
    if has_test_source:
        return (train,)
    return train, train + split.last * split.eval / (split.eval + split.test)


def time_cuts(times: Indices, shares: Sequence[float]) -> tuple[int, ...]:
    """Return the cut points that come nearest to shares: each the first time after a cut.

    Raises:
        DataError: If there are fewer different times than splits.
    """
    found, counts = np.unique(times.astype(np.int64), return_counts=True)
    if len(found) <= len(shares):
        raise DataError(
            f"ingest.split: {len(found)} different times in the rows; expected at least "
            f"{len(shares) + 1}, one for each split"
        )
    older = np.cumsum(counts)[:-1]  # rows before the second, third, ... time
    cuts: list[int] = []
    for number, share in enumerate(shares):
        least, beyond = len(cuts) and cuts[-1] + 1, len(older) - (len(shares) - 1 - number)
        wanted = np.abs(older[least:beyond] - share * len(times))
        cuts.append(int(least + np.argmin(wanted)))
    return tuple(int(found[cut + 1]) for cut in cuts)
