"""JSON to arrays: shapes, dtypes, padding, and where a refusal points."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.records.package import InputSpec
from serving.server.requests.errors import InvalidInputError, TooLargeError
from serving.server.requests.instances import InputReader, Limits


def reader(**inputs: InputSpec) -> InputReader:
    return InputReader(inputs)


IMAGE = InputSpec(dtype="float32", shape=(2, 3))
WORDS = InputSpec(dtype="string", is_variable_length=True)
IDS = InputSpec(dtype="int64", is_variable_length=True)
AGE = InputSpec(dtype="int64")
NAME = InputSpec(dtype="string", default="?")


def test_a_fixed_shape_keeps_its_axes():
    rows = [[[1, 2, 3], [4, 5, 6.5]], [[0, 0, 0], [0, 0, 7]]]
    array = reader(image=IMAGE).read_rows(rows)["image"]
    assert array.dtype == np.float32
    assert array.tolist() == rows


def test_variable_lengths_are_padded_to_the_longest_row():
    columns = reader(words=WORDS, ids=IDS).read_rows(
        [{"words": ["a", "ö"], "ids": []}, {"ids": [5]}, {"words": ["c"], "ids": [1, 2]}]
    )
    assert columns["words"].tolist() == [[b"a", "ö".encode()], [b"", b""], [b"c", b""]]
    least = -(2**63)
    assert columns["ids"].tolist() == [[least, least], [5, least], [1, 2]]


def test_float_lists_are_padded_with_nan():
    spec = InputSpec(dtype="float32", is_variable_length=True)
    array = reader(x=spec).read_rows([[1.0], [2.0, 3.0]])["x"]
    np.testing.assert_array_equal(array, np.array([[1, np.nan], [2, 3]], np.float32))


def test_rows_of_empty_lists_make_an_empty_width():
    assert reader(words=WORDS).read_rows([{}, {"words": []}])["words"].shape == (2, 0)


def test_base64_objects_are_bytes():
    columns = reader(name=NAME).read_rows([{"b64": "AP8="}, "plain"])
    assert columns["name"].tolist() == [b"\x00\xff", b"plain"]


def test_columns_fill_a_missing_input_with_its_default():
    columns = reader(age=AGE, name=NAME).read_columns({"age": [3, 4]})
    assert columns["name"].tolist() == [b"?", b"?"]


@pytest.mark.parametrize(
    ("spec", "value", "message"),
    [
        (IMAGE, [[1, 2], [3, 4]], r"instances\[0\].f\[0\]: found 2 items, expected 3"),
        (IMAGE, [[1, 2, 3]], r"instances\[0\].f: found 1 items, expected 2"),
        (IMAGE, 5, r"found a whole number \(5\), expected float32 of shape \[2, 3\]"),
        (IMAGE, [[1, 2, 3], [1, 2, None]], r"instances\[0\].f\[1\]\[2\]: found null"),
        (IMAGE, [[1, 2, 3], [1, 2, True]], r"f\[1\]\[2\]: found a boolean"),
        (IMAGE, [[1, 2, 3], [1, 2, [1]]], r"f\[1\]\[2\]: found a list"),
        (IMAGE, [[1, 2, 3], [1, 2, -1e39]], r"-1e\+39 does not fit into float32"),
        (AGE, 1.5, r"found a number \(1.5\), expected a single int64"),
        (AGE, 2**63, "does not fit into int64"),
        (AGE, True, "found a boolean"),
        (AGE, {"b64": "AA=="}, "found an object"),
        (NAME, 3, r"found a whole number \(3\), expected a single string"),
        (NAME, {"b64": "?"}, r"f\.b64: not base64: 1 characters cannot be base64; is it cut off"),
        (WORDS, "a b", "expected a list of string, of any length"),
        (WORDS, ["a", 1], r"f\[1\]: found a whole number"),
        (IDS, [1, -(2**63)], "does not fit into int64"),
    ],
)
def test_a_wrong_value_is_refused_where_it_stands(spec, value, message):
    with pytest.raises(InvalidInputError, match=message):
        reader(f=spec, other=NAME).read_rows([{"f": value}])


def test_columns_of_different_length_are_refused():
    with pytest.raises(InvalidInputError, match="columns differ in length: {'age': 1, 'name': 2}"):
        reader(age=AGE, name=NAME).read_columns({"age": [1], "name": ["a", "b"]})


def test_a_bare_list_is_refused_where_there_are_two_inputs():
    with pytest.raises(InvalidInputError, match="expected an object with 'age', 'name'"):
        reader(age=AGE, name=NAME).read_columns([1, 2])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["f", "other", "b64", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from([IMAGE, WORDS, IDS, AGE, NAME]))
def test_any_json_is_read_or_refused(value, spec):
    for subject in (reader(f=spec), reader(f=spec, other=NAME)):
        for read in (subject.read_rows, subject.read_columns):
            try:
                columns = read(value)
            except InvalidInputError:
                pass
            else:
                assert len({len(array) for array in columns.values()}) == 1


@given(st.lists(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), max_size=5), min_size=1, max_size=6))
def test_what_is_not_padding_is_what_was_sent(rows):
    array = reader(ids=IDS).read_rows(rows)["ids"]
    assert [[item for item in row if item != IDS.padding] for row in array.tolist()] == rows


# --- limits ---------------------------------------------------------------------------------------

FEW = Limits(rows=4, cells=20)


def read_within(limits: Limits, key: str, body, **inputs: InputSpec):
    limited = InputReader(inputs, limits)
    return limited.read_rows(body) if key == "instances" else limited.read_columns(body)


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("instances", [{}] * 5),
        ("instances", [{"words": 7}] * 5),  # rows are counted before they are looked at
        ("inputs", {"words": [["a"]] * 5}),
    ],
)
def test_rows_are_limited_before_anything_is_made_of_them(key, body):
    with pytest.raises(TooLargeError, match=f"{key}: found 5 rows, at most 4 are accepted"):
        read_within(FEW, key, body, words=WORDS)


@pytest.mark.parametrize("spec", [WORDS, IDS, InputSpec(dtype="float32", is_variable_length=True)])
def test_padding_is_limited_by_rows_times_the_longest_list(spec):
    item = "a" if spec.dtype == "string" else 1
    longest = [{"x": [item] * 6}, *[{"x": [item]}] * 3]
    match = r"instances: 'x' would be padded to 4 rows x 6 \(its longest list\), at most 20 values"
    with pytest.raises(TooLargeError, match=match):
        read_within(FEW, "instances", longest, x=spec)
    assert read_within(FEW, "instances", [{"x": [item] * 5}, *longest[1:]], x=spec)["x"].shape == (
        4,
        5,
    )
    assert read_within(FEW, "instances", [{"x": [item] * 20}], x=spec)["x"].shape == (1, 20)


def test_a_small_body_cannot_ask_for_gigabytes():
    """82 KB: 4,000 empty lists and one of 40,000 numbers."""
    body: list[Any] = [{"ids": []}] * 4000 + [{"ids": [1] * 40_000}]
    with pytest.raises(TooLargeError, match="4,001 rows x 40,000"):
        read_within(Limits(rows=4096, cells=1 << 20), "instances", body, ids=IDS)


def test_examples_are_limited_where_the_model_pads_what_they_hold():
    body = [{"examples": "x" * 6}, *[{"examples": "y"}] * 3]
    examples = InputSpec(dtype="string")
    assert len(read_within(FEW, "instances", body, examples=examples)["examples"]) == 4
    padding = Limits(rows=4, cells=20, pads_examples=True)
    with pytest.raises(TooLargeError, match=r"4 rows x 6 \(its longest text\)"):
        read_within(padding, "instances", body, examples=examples)
