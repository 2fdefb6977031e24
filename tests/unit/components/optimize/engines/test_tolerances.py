"""How far answers of what is served may be from the exact model's, by hand."""

import numpy as np
import pytest

from components.optimize.engines.tolerances import reduced_tolerance

ROWS = 100


def scores(margins: np.ndarray) -> dict[str, np.ndarray]:
    """Return answers of two classes that are so far apart."""
    return {"scores": np.stack([0.5 + margins / 2, 0.5 - margins / 2], axis=1)}


def moved(answers: dict[str, np.ndarray], by: np.ndarray) -> dict[str, np.ndarray]:
    return {name: one + by[:, None] * [1, -1] for name, one in answers.items()}


# Half margins of 0.005, 0.015, ... 0.995, halved: class of row n changes beyond 0.0025 + n / 200.
EVEN = scores((np.arange(ROWS) + 0.5) / ROWS)


def test_what_was_measured_is_taken_twice_within_what_the_budget_implies() -> None:
    small = moved(EVEN, np.full(ROWS, 0.001))
    assert reduced_tolerance(EVEN, small, 1.0, 1e-5) == pytest.approx(0.002)
    # One row in a hundred may change its class: all may move by half the second least margin.
    more = moved(EVEN, np.full(ROWS, 0.006))
    assert reduced_tolerance(EVEN, more, 1.0, 1e-5) == pytest.approx(0.015 / 2)
    assert reduced_tolerance(EVEN, more, 10.0, 1e-5) == pytest.approx(0.012)


def test_nothing_is_added_to_what_is_measured_beyond_the_budget() -> None:
    large = moved(EVEN, np.full(ROWS, 0.3))
    assert reduced_tolerance(EVEN, large, 1.0, 1e-5) == pytest.approx(0.3)


def test_the_worst_rows_that_the_budget_allows_do_not_widen_it() -> None:
    by = np.full(ROWS, 0.001)
    by[7] = 0.9
    assert reduced_tolerance(EVEN, moved(EVEN, by), 2.0, 1e-5) == pytest.approx(0.002)
    # half of 1 % of 100 rows is none: that row counts, and nothing is added to it
    assert reduced_tolerance(EVEN, moved(EVEN, by), 1.0, 1e-5) == pytest.approx(0.9)


def test_a_probability_alone_is_a_class_and_any_other_number_a_value() -> None:
    probability = {"p": np.linspace(0.5, 0.99, 50)}
    found = {"p": probability["p"] + 0.002}
    assert reduced_tolerance(probability, found, 0.0, 1e-5) == pytest.approx(0.002)
    assert reduced_tolerance(probability, found, 4.0, 1e-5) == pytest.approx(0.004)
    # values 1 and 3 have a standard deviation of 1 and a mean of 2: 10 % of it is 0.05 of them
    values = {"value": np.array([1.0, 3.0] * 50)}
    found = {"value": values["value"] * 1.04}
    assert reduced_tolerance(values, found, 10.0, 1e-5) == pytest.approx(0.05)
    assert reduced_tolerance(values, found, 50.0, 1e-5) == pytest.approx(0.08)


def test_it_is_never_below_that_of_float32_and_text_has_that_one() -> None:
    assert reduced_tolerance(EVEN, EVEN, 1.0, 1e-5) == 1e-5
    words = {"word": np.array([b"a"], object)}
    assert reduced_tolerance(words, words, 1.0, 1e-5) == 1e-5


def test_the_budget_bounds_by_how_much_what_was_measured_may_grow() -> None:
    small = moved(EVEN, np.full(ROWS, 0.001))
    assert reduced_tolerance(EVEN, small, 1.0, 1e-5, reach=1.5) == pytest.approx(0.0015)
    assert reduced_tolerance(EVEN, small, 1.0, 1e-5, reach=1.0) == pytest.approx(0.001)


def test_the_class_at_each_place_of_a_row_counts() -> None:
    """Two places a row, 0.4 and 0.03 from another class; not 0.4 from the best of both."""
    tags = np.array([[[0.9, 0.1], [0.53, 0.47]]] * ROWS)
    assert reduced_tolerance({"tags": tags}, {"tags": tags - 0.02}, 1.0, 1e-5) == pytest.approx(
        0.03
    )


def test_margins_of_large_numbers_are_relative_as_their_differences_are() -> None:
    """Logits 50 and 40: 5 from another class, a tenth of the size."""
    logits = np.tile([50.0, 40.0], (ROWS, 1))
    found = {"logits": logits * 1.08}
    assert reduced_tolerance({"logits": logits}, found, 1.0, 1e-5) == pytest.approx(0.1)
