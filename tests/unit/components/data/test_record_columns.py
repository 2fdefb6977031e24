"""Records as columns: types of their values, and text where a column has several types."""

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from components.data.raw_values import flatten, read_values
from components.data.record_columns import column_of, names_of, record_batch
from components.data.source_columns import plain
from contract.schema.data import FeatureConfig

PARIS = timezone(timedelta(hours=1))
TEXT = FeatureConfig(dtype="string")


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
        ([Decimal("1.50"), "x"], ["1.5", "x"]),
        ([float("nan"), "x"], [None, "x"]),
        ([date(2024, 1, 1), datetime(2024, 1, 1, 5)], ["2024-01-01", "2024-01-01 05:00:00"]),
        ([date(2024, 1, 1), 5], ["2024-01-01", "5"]),
        ([datetime(2024, 1, 1, 5, tzinfo=PARIS), 5], ["2024-01-01 04:00:00Z", "5"]),
        ([time(5, tzinfo=PARIS)], ["05:00:00+01:00"]),
        ([[[1, 2], [3, 4]], "x", [5, 6]], [["1", "2", "3", "4"], ["x"], ["5", "6"]]),
        (["a\ud800"], None),
    ],
)
def test_mixed_values_are_the_text_that_a_csv_file_would_hold(values, expected) -> None:
    if expected is None:
        with pytest.raises(UnicodeEncodeError):
            column_of(values)
    else:
        assert column_of(values).to_pylist() == expected


def text_of(column: pa.Array) -> Any:
    flat, _ = read_values(flatten(plain(column)[0], TEXT), TEXT)
    return flat.as_lists()[0].as_py()


@pytest.mark.parametrize("other", ["x", 2.5, Decimal("NaN"), Decimal("1.123456789"), date.min])
@pytest.mark.parametrize(
    "value",
    [
        7,
        3.0,
        1e-7,
        -0.0,
        12345678901.5,
        1e15,
        10**10,
        10**15,
        2**53 + 1,
        float("nan"),
        Decimal("1.50"),
        Decimal("0.0000001"),
        Decimal(0),
        date(2024, 1, 1),
        datetime(2024, 1, 1, 5, 0, 0, 500_000),
        datetime(2024, 7, 1, 5, tzinfo=PARIS),
        time(5),
        timedelta(1),
        UUID(int=1),
    ],
)
def test_the_text_of_a_value_does_not_depend_on_the_others(value: Any, other: Any) -> None:
    assert text_of(column_of([value, other])) == text_of(column_of([value]))
    assert text_of(column_of([[[value]], [other]])) == text_of(column_of([[[value]]]))


def test_the_zone_of_a_time_does_not_depend_on_the_others() -> None:
    summer = datetime(2024, 7, 1, 5, tzinfo=timezone(timedelta(hours=2)))
    winter = datetime(2024, 1, 1, 5, tzinfo=PARIS)
    texts = ["2024-07-01 03:00:00Z", "2024-01-01 04:00:00Z"]
    assert plain(column_of([summer, winter]))[0].to_pylist() == texts
    assert plain(column_of([winter, summer]))[0].to_pylist() == texts[::-1]


def test_names_come_in_the_order_in_which_they_come_up() -> None:
    assert names_of([{"b": 1}, {"a": 1, "b": 2}]) == ("b", "a")
