"""What callers have becomes what the model takes, or is refused."""

import math

import numpy as np
import pytest

from slipway.client.columns import Tensor, array_of_json, column_of, json_of

NUMBERS, WHOLE = Tensor("float32", (None, 2)), Tensor("int64", (None,))
WORDS, LISTS = Tensor("string", (None, None)), Tensor("float32", (None, None))


def test_numbers_become_the_models_type() -> None:
    for value in ([[1, 2]], np.array([[1, 2]], np.int64), np.array([[1.0, 2.0]])):
        found = column_of(value, NUMBERS)
        assert (found.dtype, found.tolist()) == (np.float32, [[1.0, 2.0]])
    assert column_of([3], WHOLE).dtype == np.int64


def test_text_becomes_bytes() -> None:
    tensor = Tensor("string", (None,))
    for value in (["ü", b"\xff"], np.array(["ü", b"\xff"], object)):
        assert column_of(value, tensor).tolist() == ["ü".encode(), b"\xff"]


def test_lists_of_different_length_are_padded() -> None:
    assert column_of([["a"], ["b", "c"], []], WORDS).tolist() == [
        [b"a", b""],
        [b"b", b"c"],
        [b"", b""],
    ]
    found = column_of([[1], [2, 3]], LISTS)
    assert found[0][0] == 1
    assert math.isnan(found[0][1])


def test_json_has_no_padding_and_bytes_that_are_not_text_as_base64() -> None:
    assert json_of(column_of([["a"], ["b", b"\xff"]], WORDS), WORDS) == [
        ["a"],
        ["b", {"b64": "/w=="}],
    ]
    assert json_of(column_of([[1], [2, 3]], LISTS), LISTS) == [[1.0], [2.0, 3.0]]
    least = Tensor("int64", (None, None))
    assert json_of(column_of([[1], [2, 3]], least), least) == [[1], [2, 3]]


def test_outputs_come_back_in_the_models_type() -> None:
    assert array_of_json([[1, 2]], NUMBERS).dtype == np.float32
    found = array_of_json(["a", {"b64": "/w=="}], Tensor("string", (None,)))
    assert found.tolist() == [b"a", b"\xff"]


@pytest.mark.parametrize(
    ("value", "tensor", "words"),
    [
        ([1.5], WHOLE, "found float64"),
        (["1"], WHOLE, "found <U1"),
        ([300], Tensor("int8", (None,)), "a value does not fit"),
        ([1], Tensor("bool", (None,)), "found int64"),
        ([1], Tensor("string", (None,)), "found int"),
    ],
)
def test_what_cannot_be_the_models_type_is_refused(value, tensor, words) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError), match=words):
        column_of(value, tensor)
