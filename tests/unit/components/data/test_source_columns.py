"""Columns of every Arrow type in their plain form, and those that have none."""

import datetime as dt
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from components.data.source_columns import partition_columns, plain, type_problem, with_partitions
from contract.errors import DataError
from contract.schema.data import FeatureConfig

NOON = dt.datetime(2024, 2, 29, 12, 0, 0)


def values(column: pa.Array) -> Any:
    found, bad = plain(column)
    assert not bad.any()
    return found.to_pylist()


def broken_text() -> pa.Array:
    """Three rows of which the second is not UTF-8, as a careless writer leaves it."""
    offsets = np.array([0, 1, 3, 4], np.int32).tobytes()
    return pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(offsets), pa.py_buffer(b"ab\xffc")]
    )


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
        pa.dictionary(pa.int32(), pa.string_view()),
    ],
)
def test_text_of_every_kind_is_the_same_text(kind: pa.DataType) -> None:
    if pa.types.is_dictionary(kind):
        indices = pa.array([0, None, 1], kind.index_type)
        column = pa.DictionaryArray.from_arrays(indices, pa.array(["ä", ""], kind.value_type))
    else:
        column = pa.array(["ä", None, ""], kind)
    found, _ = plain(column)
    assert found.type == pa.string()
    assert found.to_pylist() == ["ä", None, ""]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2)])
def test_bytes_of_every_kind_are_the_same_bytes(kind: pa.DataType) -> None:
    assert values(pa.array([b"\xff\0", None], kind)) == [b"\xff\0", None]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64()),
        pa.large_list(pa.int64()),
        pa.list_(pa.int64(), 2),
        pa.list_view(pa.int64()),
        pa.large_list_view(pa.int64()),
        pa.list_(pa.dictionary(pa.int8(), pa.int64())),
    ],
)
def test_lists_of_every_kind_are_the_same_lists(kind: pa.DataType) -> None:
    column = pa.array([[1, 2], None, [3, 4]], kind)
    assert values(column) == [[1, 2], None, [3, 4]]
    assert values(column.slice(1)) == [None, [3, 4]]


def test_lists_within_lists_keep_their_values_through_views() -> None:
    nested = pa.array([[["a", "b"], []], None], pa.list_(pa.list_view(pa.string_view())))
    assert values(nested) == [[["a", "b"], []], None]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([Decimal("1.50"), Decimal("200.00")], pa.decimal128(9, 2)), ["1.5", "200"]),
        (pa.array([Decimal("9223372036854775807")], pa.decimal256(40, 0)), ["9223372036854775807"]),
        (pa.array([Decimal("120")], pa.decimal64(9, 0)), ["120"]),
        (pa.array([NOON], pa.timestamp("ns")), ["2024-02-29 12:00:00"]),
        (pa.array([NOON.replace(microsecond=250000)]), ["2024-02-29 12:00:00.25"]),
        (pa.array([NOON], pa.timestamp("s", "UTC")), ["2024-02-29 12:00:00Z"]),
        (pa.array([NOON.date()], pa.date32()), ["2024-02-29"]),
        (pa.array([NOON.date()], pa.date64()), ["2024-02-29"]),
        (pa.array([NOON.time()], pa.time64("us")), ["12:00:00"]),
        (pa.array([True, None]), [True, None]),
        (pa.array([1.5], pa.float16()), [1.5]),
        (pa.array([None, None]), [None, None]),
        (pc.run_end_encode(pa.array(["x", "x", "y"])), ["x", "x", "y"]),
        (
            pa.array([uuid.UUID(int=1).bytes], pa.uuid()),
            ["00000000-0000-0000-0000-000000000001"],
        ),
    ],
)
def test_other_types_become_what_they_stand_for(column: pa.Array, expected: list[Any]) -> None:
    assert values(column) == expected


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.map_(pa.string(), pa.int64()), "a map"),
        (pa.struct([("a", pa.int64())]), "a struct"),
        (pa.list_(pa.struct([("a", pa.int64())])), "a struct"),
        (pa.dense_union([pa.field("a", pa.int64())]), "a dense_union"),
        (pa.month_day_nano_interval(), "a month_day_nano_interval"),
    ],
)
def test_types_without_a_place_in_an_example_are_refused_by_name(
    kind: pa.DataType, name: str
) -> None:
    with pytest.raises(DataError, match=f"is {name} .*flatten it first"):
        plain(pa.nulls(1, kind))


def test_times_and_bytes_are_no_numbers() -> None:
    number = FeatureConfig(dtype="int64")
    problem = type_problem(pa.timestamp("us"), number)
    assert problem.startswith("is timestamp[us]; expected int64: declare the feature as string")
    assert "convert the column to numbers or text" in type_problem(pa.binary_view(), number)
    assert type_problem(pa.timestamp("us"), FeatureConfig(dtype="string")) == ""


def test_text_that_is_not_utf8_spoils_its_own_row_only() -> None:
    keys = pa.array([0, 1, 2, None])
    for column in (
        broken_text(),
        pa.DictionaryArray.from_arrays(keys, broken_text()).slice(0, 3),
        broken_text().cast(pa.binary()).cast(pa.large_binary()).view(pa.large_string()),
    ):
        found, bad = plain(column)
        assert bad.tolist() == [False, True, False]
        assert found.to_pylist() == ["a", None, "c"]
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 3]), broken_text())
    assert plain(lists)[1].tolist() == [True, False]


def test_folders_say_columns_as_hive_does() -> None:
    path = Path("/data/year=2024/town=Bad%20Ems/x=__HIVE_DEFAULT_PARTITION__/a=b.parquet")
    assert partition_columns(path) == {"year": "2024", "town": "Bad Ems", "x": None}
    batch = pa.RecordBatch.from_pydict({"year": [1, 2]})
    found = with_partitions(batch, path)
    assert found.to_pylist()[1] == {"year": 2, "town": "Bad Ems", "x": None}


@pytest.mark.parametrize("scale", [7, 9, 30])
def test_the_text_of_a_decimal_does_not_depend_on_its_scale(scale: int) -> None:
    values = [Decimal(0), Decimal("-0.0000001"), Decimal("1.50"), None]
    column = pa.array(values, pa.decimal128(38, scale))
    assert plain(column)[0].to_pylist() == ["0", "-0.0000001", "1.5", None]
