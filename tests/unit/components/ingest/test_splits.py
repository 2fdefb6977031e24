"""Splits by digest: exact places, proportions, and no row in a split of no size."""

import hashlib

import numpy as np

from components.ingest.splits import choose_splits, split_bounds
from contract.schema.data import SplitConfig

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
