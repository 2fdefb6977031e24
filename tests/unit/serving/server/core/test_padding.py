"""When rows of different lengths may share a call, by arithmetic on small shapes."""

import numpy as np
import pytest

from serving.server.core.padding import PaddedShape


def shape(rows: int, **widths: int) -> PaddedShape:
    columns = {name: np.zeros((rows, width)) for name, width in widths.items()}
    return PaddedShape.of(columns | {"fixed": np.zeros(rows)}, rows, list(widths))


def test_cells_are_rows_times_the_longest_of_each_input() -> None:
    together = shape(2, words=3, ids=1).beside(shape(1, words=1, ids=5))
    assert (together.rows, together.widths) == (3, {"words": 3, "ids": 5})
    assert together.values == 2 * 4 + 1 * 6
    assert together.cells == 3 * 8


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        (shape(1, x=1000), shape(1, x=1000), True),
        (shape(4, x=1000), shape(4, x=400), True),  # 8,000 cells for 5,600 values
        (shape(1, x=10_000), shape(1, x=5_000), True),  # 20,000 for 15,000
        (shape(1, x=10_000), shape(1, x=10), False),  # 20,000 for 10,010
        (shape(1, x=1000), shape(3, x=1), True),  # 4,000 cells cost less than another call
        (shape(60, x=1000), shape(60, x=1000), False),  # 120,000 cells, above the limit
    ],
)
def test_a_long_row_goes_alone_where_its_neighbours_would_pay(one, other, may) -> None:
    assert one.beside(other).is_worth_it(100_000) is may
    assert other.beside(one).is_worth_it(100_000) is may
