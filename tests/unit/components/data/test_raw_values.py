"""One raw column: conversion of text and typed values, shapes, ranges, bytes to hash."""

import math
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.joined_bytes import join_rows
from components.data.raw_values import Flat, flatten, problems_of, read_values
from components.data.source_columns import plain
from contract.schema.data import FeatureConfig


def parsed(column: pa.Array, feature: FeatureConfig) -> tuple[list[object], list[str]]:
    """Return the values as lists per row, and per row the first problem ('' if none)."""
    flat, unreadable = read_values(flatten(plain(column)[0], feature), feature)
    problems = ["unreadable" if bad else "" for bad in unreadable.tolist()]
    for reason, rows in problems_of(flat, feature, ~unreadable):
        for row, is_bad in enumerate(rows.tolist()):
            problems[row] = problems[row] or (reason if is_bad else "")
    return flat.as_lists().to_pylist(), problems


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("+2", 2), ("-3", -3), ("5.0", 5), ("007", 7), ("9" * 18, 10**18 - 1), (" 4 ", 4)],
)
def test_text_is_read_as_an_integer(text: str, value: int) -> None:
    assert parsed(pa.array([text]), FeatureConfig(dtype="int64")) == ([[value]], [""])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1234567890123456789", 1234567890123456789),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("+9223372036854775807.000", 2**63 - 1),
        ("0000000000000000000000042", 42),
        ("1e3", 1000),
        ("1.5E+1", 15),
        ("1200e-2", 12),
        ("-0.0", 0),
        ("0e999999999", 0),
        ("9.223372036854775807e18", 2**63 - 1),
    ],
)
def test_an_integer_is_read_by_its_value(text: str, value: int) -> None:
    feature = FeatureConfig(dtype="int64")
    assert parsed(pa.array(["1", text, None, "2"]), feature)[0] == [[1], [value], None, [2]]


@pytest.mark.parametrize(
    "text",
    [
        "9223372036854775808",
        "-9223372036854775809",
        "9223372036854775807.5",
        "1e19",
        "1e999999999",
        "1e-999999999",
        "1e-1",
        "1e",
        "e5",
        ".",
        "1,000",
    ],
)
def test_a_number_that_is_no_int64_is_unreadable(text: str) -> None:
    assert parsed(pa.array([text, "7"]), FeatureConfig(dtype="int64"))[1] == ["unreadable", ""]


def test_decimals_keep_every_digit_of_an_integer() -> None:
    column = pa.array([Decimal(2**63 - 1), Decimal("1.50"), None], pa.decimal128(38, 2))
    feature = FeatureConfig(dtype="int64", default=0)
    assert parsed(column, feature) == ([[2**63 - 1], [0], None], ["", "unreadable", ""])
    number = parsed(column, FeatureConfig(dtype="float32", default=0))[0]
    assert number == [[float(2**63)], [1.5], None]
    assert parsed(column, FeatureConfig(dtype="string"))[0][1] == [b"1.5"]


def test_nan_where_text_or_an_integer_should_be_is_a_missing_value() -> None:
    column = pa.array([3.0, math.nan])
    for dtype in ("string", "int64"):
        assert parsed(column, FeatureConfig(dtype=dtype))[1] == [
            "",
            "missing, without a default",
        ]
    assert parsed(column, FeatureConfig(dtype="string", default="?")) == ([[b"3"], None], ["", ""])
    lists = pa.array([[1.0, math.nan]])
    words = FeatureConfig(dtype="string", is_variable_length=True)
    assert parsed(lists, words)[1] == ["unreadable"]
    assert parsed(column, FeatureConfig(dtype="float32"))[1][1] == "not a finite number"


@pytest.mark.parametrize("text", ["x", "1.5", "1.5e0", "9" * 20, "1_000", "0x10", "nan", "١"])
def test_text_that_is_no_integer_is_unreadable(text: str) -> None:
    assert parsed(pa.array([text]), FeatureConfig(dtype="int64"))[1] == ["unreadable"]


@pytest.mark.parametrize("text", ["nan", "NaN", "-inf", "Infinity", "1e39"])
def test_a_number_that_is_not_finite_is_a_problem(text: str) -> None:
    problems = parsed(pa.array([text]), FeatureConfig(dtype="float32"))[1]
    assert problems == ["not a finite number"]


def test_a_missing_scalar_is_a_problem_only_without_a_default() -> None:
    column = pa.array([None, 1])
    assert parsed(column, FeatureConfig(dtype="int64"))[1][0] == "missing, without a default"
    assert parsed(column, FeatureConfig(dtype="int64", default=7)) == ([None, [1]], ["", ""])


def test_values_outside_the_range_are_problems() -> None:
    feature = FeatureConfig(dtype="int64", minimum=0, maximum=120)
    problems = parsed(pa.array(["-1", "0", "120", "121"]), feature)[1]
    assert problems == ["below the minimum 0", "", "", "above the maximum 120"]


def test_nested_lists_fit_a_shape_by_their_number_of_values() -> None:
    feature = FeatureConfig(dtype="float32", shape=(2, 2))
    values, problems = parsed(pa.array([[[1, 2], [3, 4]], [[1], [2]], None]), feature)
    assert values[0] == [1.0, 2.0, 3.0, 4.0]
    assert problems == ["", "not of shape [2, 2]", "missing, without a default"]


def test_a_cell_of_a_list_feature_is_split_and_empty_items_are_dropped() -> None:
    words = FeatureConfig(dtype="string", is_variable_length=True, separator=",")
    values, problems = parsed(pa.array(["a,b", "", "c,,d", None]), words)
    assert values == [[b"a", b"b"], None, [b"c", b"d"], None]
    assert problems == ["", "", "", ""]
    spaced = FeatureConfig(dtype="int64", is_variable_length=True)
    assert parsed(pa.array([" 3   4 "]), spaced) == ([[3, 4]], [""])


def test_one_bad_item_spoils_its_row_only() -> None:
    feature = FeatureConfig(dtype="int64", is_variable_length=True)
    assert parsed(pa.array(["1 2", "1 x", "3"]), feature)[1] == ["", "unreadable", ""]


def test_typed_integers_keep_their_value_or_are_refused() -> None:
    feature = FeatureConfig(dtype="int64")
    assert parsed(pa.array([2**53 + 1]), feature) == ([[2**53 + 1]], [""])
    assert parsed(pa.array([2**64 - 1], pa.uint64()), feature)[1] == ["unreadable"]
    assert parsed(pa.array([1.0, 1.5, 1e300]), feature)[1] == ["", "unreadable", "unreadable"]


def test_numbers_become_the_text_that_a_csv_would_hold() -> None:
    feature = FeatureConfig(dtype="string")
    assert parsed(pa.array([3.0, 2.5]), feature)[0] == [[b"3"], [b"2.5"]]
    large = pa.array([1e10, 1e15, 123456789012.5, -2e10, 1e16])
    written = [[b"10000000000"], [b"1000000000000000"], [b"123456789012.5"], [b"-20000000000"]]
    assert parsed(large, feature)[0] == [*written, [b"1e+16"]]
    assert parsed(pa.array([10**10, 10**15]), feature)[0] == written[:2]
    assert parsed(pa.array([1e10], pa.float32()), feature)[0] == written[:1]
    assert parsed(pa.array(["b", "a"]).dictionary_encode(), feature)[0] == [[b"b"], [b"a"]]


def test_different_rows_have_different_bytes() -> None:
    def row_bytes(values: list[list[bytes]]) -> list[bytes]:
        flat = pa.array(values, pa.list_(pa.binary()))
        lengths = flat.value_lengths().to_numpy()
        return join_rows(Flat(lengths, flat.flatten()).as_pieces())

    rows = row_bytes([[b"ab"], [b"a", b"b"], [b"a"], [], [b""], [b"1:a"], [b"", b""]])
    assert len(set(rows)) == len(rows)


ROWS = {
    "q": st.integers(-(2**63), 2**63 - 1),
    "f": st.floats(width=32),
    "": st.binary(max_size=3) | st.text(max_size=300).map(str.encode),
}
ARROW = {"q": pa.int64(), "f": pa.float32(), "": pa.binary()}


@given(
    st.sampled_from(sorted(ROWS)).flatmap(
        lambda kind: st.tuples(
            st.just(kind), st.lists(st.lists(ROWS[kind], max_size=4), max_size=6)
        )
    )
)
@settings(max_examples=50, deadline=None)
def test_a_rows_bytes_are_its_count_and_then_its_values(found: tuple[str, list[list[Any]]]) -> None:
    kind, rows = found

    def one(value: Any) -> bytes:
        return struct.pack(f"<{kind}", value) if kind else b"%d:%b" % (len(value), value)

    column = pa.array(rows, pa.list_(ARROW[kind]))
    lengths = np.array([len(row) for row in rows], np.int64)
    pieces = Flat(lengths, column.flatten()).as_pieces()
    expected = [b"%d;" % len(row) + b"".join(map(one, row)) for row in rows]
    assert join_rows(pieces) == expected


ODD = "1e400, 7,0x10,0X1F,+5,1_000,nan,-inf,Infinity,,true,9223372036854775807,1e-400,1e18,5.0,-0"
TEXTS = st.text("0123456789+-.eExXnaif_ ", max_size=8) | st.sampled_from(
    [*ODD.split(","), "1,000", "007", ".", "9223372036854775808", "٣"]
)


@given(TEXTS | st.integers().map(str) | st.floats(width=32).map(str))
@settings(max_examples=60, deadline=None)
def test_text_means_the_same_number_alone_and_beside_text_that_is_none(text: str) -> None:
    for feature in (FeatureConfig(dtype="int64"), FeatureConfig(dtype="float32")):
        (alone,), (problem,) = parsed(pa.array([text]), feature)
        (beside, _), (problem_beside, _) = parsed(pa.array([text, "no number"]), feature)
        assert (repr(alone), problem) == (repr(beside), problem_beside)
