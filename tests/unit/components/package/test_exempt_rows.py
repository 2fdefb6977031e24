"""How many rows a quantised engine may answer otherwise, by scipy's binomial distribution."""

import pytest
from scipy.stats import binom

from components.package.skew import exempt_rows


@pytest.mark.parametrize("rows", [1, 64, 1000, 100_000])
@pytest.mark.parametrize("ratio", [0.001, 0.01, 0.2])
def test_as_many_rows_as_chance_makes_of_the_budget(rows: int, ratio: float) -> None:
    assert exempt_rows(rows, ratio) == int(binom.ppf(0.999, rows, ratio))


def test_without_a_budget_none_and_with_all_of_it_every_row() -> None:
    assert exempt_rows(64, 0.0) == 0
    assert exempt_rows(64, 1.0) == 64
