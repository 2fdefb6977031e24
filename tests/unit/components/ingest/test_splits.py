"""Splits by digest and by time: exact places, proportions, no row in a split of no size."""

import hashlib
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingest.splits import choose_splits, split_bounds, time_cuts, time_shares
from contract.errors import DataError
from contract.schema.split import SplitConfig

TRAIN, EVAL, TEST = 0, 1, 2


def key(first_bytes: str) -> bytes:
    return bytes.fromhex(first_bytes.ljust(64, "0"))


def test_the_first_eight_bytes_are_the_place() -> None:
    # 0x80.. is 0.5 of 2**64, 0xc0.. is 0.75.
    keys = [key("00"), key("7fff"), key("80"), key("bf"), key("c0"), key("ff" * 8)]
    assert choose_splits(keys, (0.5, 0.75)).tolist() == [TRAIN, TRAIN, EVAL, EVAL, TEST, TEST]


def test_shares_come_out_as_configured() -> None:
    keys = [hashlib.sha256(str(n).encode()).digest() for n in range(20_000)]
    counts = np.bincount(choose_splits(keys, (0.8, 0.9)))
    # Three standard deviations of a share of 0.1 in 20,000 rows are 0.0064.
    assert np.allclose(counts / 20_000, [0.8, 0.1, 0.1], atol=0.0085)


def test_with_a_test_file_train_and_eval_share_the_whole() -> None:
    split = SplitConfig(train=0.6, eval=0.2, test=0.2)
    assert split_bounds(split, has_test_source=False) == (0.6, 0.8)
    assert split_bounds(split, has_test_source=True) == (0.6 / (0.6 + 0.2), 1.0)
    highest = [key("ff" * 32)]
    assert choose_splits(highest, (0.75, 1.0)).tolist() == [EVAL]


def test_no_keys_have_no_splits() -> None:
    assert choose_splits([], (0.5, 1.0)).tolist() == []


# --- by time ------------------------------------------------------------------------------------


def cut(times: list[int], shares: tuple[float, ...]) -> list[list[int]]:
    """Return the times of each split."""
    cuts = time_cuts(np.array(times), shares)
    places = np.searchsorted(np.array(cuts), np.array(times), side="right").tolist()
    return [sorted(t for t, p in zip(times, places, strict=True) if p == n) for n in range(3)]


def test_the_newest_rows_are_tested_on() -> None:
    assert cut(list(range(10, 0, -1)), (0.8, 0.9)) == [[1, 2, 3, 4, 5, 6, 7, 8], [9], [10]]


def test_rows_of_one_time_stay_together() -> None:
    # 8 of 10 would cut the times 5 in two: the nearest place between two times is before them.
    assert cut([1, 2, 3, 4, 4, 4, 5, 5, 5, 6], (0.75, 0.95)) == [
        [1, 2, 3, 4, 4, 4],
        [5, 5, 5],
        [6],
    ]


def test_every_split_has_rows_where_there_are_as_many_times() -> None:
    assert cut([1] * 98 + [2, 3], (0.1, 0.2)) == [[1] * 98, [2], [3]]
    assert cut([1, 2] + [3] * 98, (0.8, 0.9)) == [[1], [2], [3] * 98]
    with pytest.raises(DataError, match="2 different times in the rows; expected at least 3"):
        time_cuts(np.array([1, 2, 2]), (0.8, 0.9))


@given(
    times=st.lists(st.integers(-5, 20), min_size=3, max_size=40).filter(lambda t: len({*t}) > 2),
    train=st.floats(0.05, 0.9),
)
def test_no_row_that_is_trained_on_is_newer_than_one_that_is_judged(
    times: list[int], train: float
) -> None:
    splits = cut(times, (train, (1 + train) / 2))
    assert sorted(chain(*splits)) == sorted(times)
    assert all(splits)
    assert splits[0][-1] < splits[1][0] <= splits[1][-1] < splits[2][0]
    before = [sum(t < first for t in times) for first in sorted({*times})[1:-1]]
    nearest = min(abs(count - train * len(times)) for count in before)
    assert abs(len(splits[0]) - train * len(times)) == pytest.approx(nearest)


def test_shares_of_time_are_those_of_the_splits_or_of_the_last_rows() -> None:
    split = SplitConfig(by="time", column="at", train=0.7, eval=0.2, test=0.1)
    assert time_shares(split, has_test_source=False) == pytest.approx((0.7, 0.9))
    last = SplitConfig(by="time", column="at", last=0.2)
    assert time_shares(last, has_test_source=False) == pytest.approx((0.8, 0.9))
    assert time_shares(last, has_test_source=True) == pytest.approx((0.8,))
