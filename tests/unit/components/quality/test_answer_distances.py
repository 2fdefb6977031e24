"""How far answers are apart, by hand."""

import numpy as np
import pytest

from components.quality.answer_distances import distances, rounded_otherwise, usual_size


def test_scores_are_compared_absolutely() -> None:
    one = np.array([[0.2, 0.8], [0.9, 0.1]])
    other = np.array([[0.1, 0.9], [0.9, 0.1]])
    # each row's largest number is near 1: 0.1 / max(0.8, median of 0.8 and 0.9)
    assert usual_size(one) == pytest.approx(0.85)
    assert distances(one, other, usual_size(one)) == pytest.approx([0.1 / 0.85, 0.0])


def test_values_are_compared_by_their_size_and_one_near_0_by_the_usual_size() -> None:
    one = np.array([0.01, 100.0, 200.0, 1000.0])  # median 150
    other = np.array([1.51, 103.0, 200.0, 1050.0])
    expected = [1.5 / 150, 3 / 150, 0.0, 50 / 1000]
    assert distances(one, other, usual_size(one)) == pytest.approx(expected)


def test_small_targets_are_not_hidden_behind_an_absolute_tolerance() -> None:
    one, other = np.array([2e-4, 2e-4]), np.array([2e-4, 3e-4])
    assert distances(one, other, usual_size(one)) == pytest.approx([0.0, 0.5])


def test_nan_and_infinity_are_near_themselves_only() -> None:
    one = np.array([np.nan, np.inf, 1.0, np.nan, 1.0])
    other = np.array([np.nan, np.inf, np.nan, 1.0, np.inf])
    assert distances(one, other, 1.0).tolist() == [0.0, 0.0, np.inf, np.inf, np.inf]


def test_other_shapes_and_other_text_are_infinitely_far() -> None:
    assert distances(np.zeros((2, 3)), np.zeros((2, 4)), 1.0).tolist() == [np.inf, np.inf]
    one, other = np.array([b"a", b"b"], object), np.array([b"a", b"c"], object)
    assert distances(one, other, usual_size(one)).tolist() == [0.0, np.inf]


def test_only_floats_are_rounded_otherwise_and_by_two_units_in_the_last_place() -> None:
    random = np.random.default_rng(0)
    value = np.ones(4, np.float32)
    shaken = rounded_otherwise(value, random)
    assert shaken.dtype == np.float32
    assert np.abs(shaken - value).tolist() == [2.0**-22] * 4
    kept = {"a": b"text", "b": 3, "c": [1, 2], "d": np.array([1, 2])}
    assert all(rounded_otherwise(one, random) is one for n, one in kept.items() if n != "c")
    assert rounded_otherwise([1, 2], random) == [1, 2]
    assert rounded_otherwise([1.0, "x"], random) == [1.0 + 2.0**-22, "x"]
