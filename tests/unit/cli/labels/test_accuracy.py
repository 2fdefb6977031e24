"""The range of an accuracy by labels that were not chosen evenly: simulated, and by hand."""

import numpy as np
import pytest

from cli.labels.accuracy import accuracy_range
from components.deploy.judging.accuracy import Figures

ROUNDS = 2_000
ERROR = 0.05


def test_without_weights_it_is_wilsons_range() -> None:
    """By hand: 80 of 100 with z = 1.959964 gives 0.8 * n + z^2 / 2 and so on."""
    figures = Figures(np.repeat([1.0, 0.0], [80, 20]), np.full(100, 0.25))
    low, high = accuracy_range(figures, ERROR)
    assert (low, high) == (pytest.approx(0.711171, abs=1e-5), pytest.approx(0.866633, abs=1e-5))


def test_the_truth_is_in_the_range_as_often_as_promised_though_wrong_rows_are_chosen_more() -> None:
    """2,000 worlds of 1,000 rows, whose wrong ones are mostly among those that are asked often."""
    chance = np.random.default_rng(20)
    with_weights = without = 0
    for _ in range(ROUNDS):
        is_unsure = chance.random(1_000) < 0.2
        right = (chance.random(1_000) < np.where(is_unsure, 0.5, 0.97)).astype(float)
        probability = np.where(is_unsure, 0.4, 0.1)
        is_chosen = chance.random(1_000) < probability
        weighted = Figures.of(right[is_chosen], probability[is_chosen], 0.1)
        low, high = accuracy_range(weighted, ERROR)
        with_weights += low <= right.mean() <= high
        equal = Figures(right[is_chosen], np.ones(is_chosen.sum()))
        low, high = accuracy_range(equal, ERROR)
        without += low <= right.mean() <= high
    assert with_weights / ROUNDS >= 1 - ERROR - 0.02
    assert without / ROUNDS < 0.5
