"""The one measure of tolerances on answers, by hand."""

import math

import numpy as np
import pytest

from components.models.answer_differences import differences, largest_difference


@pytest.mark.parametrize(
    ("expected", "found", "apart"),
    [
        (0.5, 0.75, 0.25),  # absolute below 1
        (-0.5, 0.5, 1.0),
        (200.0, 210.0, 0.05),  # relative above
        (210.0, 200.0, 10.0 / 210.0),  # by the expected one's size
        (math.inf, math.inf, 0.0),
        (math.nan, math.nan, 0.0),
        (1.0, math.inf, math.inf),
        (math.inf, 1.0, math.inf),
        (1.0, math.nan, math.inf),
        (math.nan, 1.0, math.inf),
    ],
)
def test_numbers_are_apart(expected: float, found: float, apart: float) -> None:
    one, other = np.array([[expected]], np.float32), np.array([[found]], np.float32)
    assert differences(one, other) == pytest.approx(np.array([[apart]]), rel=1e-6)
    assert largest_difference(one, other) == pytest.approx(apart, rel=1e-6)


def test_nothing_is_not_apart() -> None:
    assert largest_difference(np.zeros((0, 2)), np.zeros((0, 2))) == 0.0
