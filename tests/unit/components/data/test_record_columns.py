"""Records as columns: types of their values, and text where a column has several types."""

from decimal import Decimal

import pyarrow as pa
import pytest

from components.data.record_columns import column_of, names_of, record_batch


def test_columns_have_the_types_of_their_values_and_null_where_a_name_lacks() -> None:
    batch = record_batch([{"a": 1, "b": "x"}, {"a": 2}, {"b": None}], ("a", "b"))
    assert batch.schema.types == [pa.int64(), pa.string()]
    assert batch.to_pydict() == {"a": [1, 2, None], "b": ["x", None, None]}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, "2", None, True], ["1", "2", None, "true"]),
        ([2**63, 1], ["9223372036854775808", "1"]),
        ([{"a": [1]}, None], ['{"a": [1]}', None]),
        ([[1, "b"], None, 3], [["1", "b"], None, ["3"]]),
        ([[{"a": 1}]], [['{"a": 1}']]),
        ([Decimal("1.50"), "x"], ["1.50", "x"]),
        (["a\ud800"], None),
    ],
)
def test_mixed_values_are_the_text_that_a_csv_file_would_hold(values, expected) -> None:
    if expected is None:
        with pytest.raises(UnicodeEncodeError):
            column_of(values)
    else:
        assert column_of(values).to_pylist() == expected


def test_names_come_in_the_order_in_which_they_come_up() -> None:
    assert names_of([{"b": 1}, {"a": 1, "b": 2}]) == ("b", "a")
