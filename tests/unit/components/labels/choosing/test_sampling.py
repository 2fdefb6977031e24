"""Random choices with known probabilities, and what the weights are for."""

import numpy as np
import pytest

from components.labels.choosing.sampling import either, proportional, systematic


def test_probabilities_are_proportional_and_what_would_be_above_one_is_certain() -> None:
    # 4 of 6 parts of 2 is more than 1: certain; the other 1 is shared by equals
    assert proportional(np.array([4.0, 1, 1]), 2) == pytest.approx([1, 0.5, 0.5])
    assert proportional(np.array([3.0, 1, 0]), 1) == pytest.approx([0.75, 0.25, 0])


def test_no_more_rows_are_wanted_than_are_worth_something() -> None:
    assert proportional(np.array([5.0, 1, 0]), 10) == pytest.approx([1, 1, 0])
    assert proportional(np.zeros(3), 10) == pytest.approx([0, 0, 0])
    assert len(proportional(np.array([]), 10)) == 0


def test_points_one_apart_choose_the_rows_into_whose_stretch_they_fall() -> None:
    halves = np.array([0.5, 0.5, 0.5, 0.5])
    assert systematic(halves, 0.25).tolist() == [0, 2]  # 0.25 and 1.25
    assert systematic(halves, 0.75).tolist() == [1, 3]
    assert systematic(np.array([1.0, 0, 1]), 0.0).tolist() == [0, 2]


def test_each_row_is_chosen_exactly_as_often_as_its_probability_says() -> None:
    probabilities = np.array([1, 3, 8, 2, 0, 5, 4, 1]) / 8
    counts = np.zeros(8)
    for start in (np.arange(8) + 0.5) / 8:  # one in the middle of each eighth: all cases
        counts[systematic(probabilities, start)] += 1
    assert (counts / 8).tolist() == probabilities.tolist()


def test_either_of_two_independent_choices() -> None:
    assert either(np.array([0.5, 0, 1]), np.array([0.5, 0.1, 0.1])) == pytest.approx([0.75, 0.1, 1])


def test_a_mean_without_weights_is_biased_and_with_them_it_is_not() -> None:
    random = np.random.default_rng(1)
    unsure = random.random(5_000)
    is_right = (random.random(5_000) > 0.6 * unsure).astype(float)  # wrong where it is unsure
    probabilities = proportional(unsure, 300)
    plain, weighted = [], []
    for _ in range(300):
        chosen = systematic(probabilities, random.random())
        plain.append(is_right[chosen].mean())
        weights = 1 / probabilities[chosen]  # the mean of Hájek (1971)
        weighted.append((weights * is_right[chosen]).sum() / weights.sum())
    error = np.std(weighted) / np.sqrt(len(weighted))
    # a plain mean counts a row as often as it is unsure: about 0.6 * (1 - 2/3), not 0.6 * (1 - 1/2)
    assert np.mean(plain) == pytest.approx((unsure * is_right).sum() / unsure.sum(), abs=0.01)
    assert np.mean(plain) < is_right.mean() - 0.08
    assert abs(np.mean(weighted) - is_right.mean()) < 4 * error < 0.01
