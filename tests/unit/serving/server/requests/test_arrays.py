"""Arrays against the inputs of a manifest: what is taken, and every refusal."""

from typing import Any

import numpy as np
import pytest

from contract.records.package import InputSpec
from serving.server.requests.arrays import ArrayReader
from serving.server.requests.errors import InvalidInputError, ServingError, TooLargeError
from serving.server.requests.instances import Limits

SPECS = {
    "image": InputSpec(dtype="float32", shape=(2, 3)),
    "words": InputSpec(dtype="string", is_variable_length=True),
    "age": InputSpec(dtype="int64", default=40),
    "name": InputSpec(dtype="string", default="nobody"),
}
READER = ArrayReader(SPECS, Limits(rows=4, cells=10))


def texts(*rows: list[bytes]) -> np.ndarray[Any, Any]:
    return np.array(rows, object)


IMAGE = np.arange(12, dtype=np.float32).reshape(2, 2, 3)


def test_arrays_pass_as_they_are_and_missing_ones_become_their_defaults() -> None:
    words = texts([b"a", b"b"], [b"c", b""])
    found = READER.read({"words": words, "image": IMAGE})
    assert list(found) == list(SPECS)
    assert found["image"] is IMAGE
    assert found["words"] is words
    assert found["age"].tolist() == [40, 40]
    assert found["age"].dtype == np.int64
    assert found["name"].tolist() == [b"nobody", b"nobody"]


def test_a_missing_variable_length_input_is_empty() -> None:
    assert READER.read({"image": IMAGE})["words"].shape == (2, 0)


def test_padding_is_taken_where_rows_differ_in_length() -> None:
    reader = ArrayReader({"x": InputSpec(dtype="float32", is_variable_length=True)})
    padded = np.array([[1, 2], [3, np.nan]], np.float32)
    assert reader.read({"x": padded})["x"] is padded
    with pytest.raises(InvalidInputError, match=r"inputs\.x\[1\]\[0\]: found inf, expected a fin"):
        reader.read({"x": np.array([[1], [np.inf]], np.float32)})


@pytest.mark.parametrize(
    ("arrays", "kind", "words"),
    [
        ({}, InvalidInputError, r"inputs: found none, expected 'image', 'words', 'age', 'name'"),
        ({"imag": IMAGE}, InvalidInputError, r"unknown input 'imag'; did you mean 'image'"),
        (
            {"image": IMAGE.astype(np.float64)},
            InvalidInputError,
            r"inputs\.image: found float64 of shape \[2, 2, 3\], expected float32 of shape "
            r"\[rows, 2, 3\]",
        ),
        ({"image": IMAGE[0]}, InvalidInputError, r"found float32 of shape \[2, 3\], expected"),
        ({"image": np.float32(1).reshape(())}, InvalidInputError, r"found float32 of shape \[\]"),
        (
            {"image": IMAGE, "words": texts([b"a"])[0]},
            InvalidInputError,
            r"the first axes differ in length: \{'image': 2, 'words': 1\}",
        ),
        (
            {"image": IMAGE, "words": np.array([b"a", b"b"], object)},
            InvalidInputError,
            r"inputs\.words: found string of shape \[2\], expected string of shape "
            r"\[rows, longest\]",
        ),
        ({"image": IMAGE[:0]}, InvalidInputError, "found 0 rows, expected at least one"),
        (
            {"words": texts([b"a"])},
            InvalidInputError,
            r"inputs\.image: missing, without a default; expected float32 of shape \[rows, 2, 3\]",
        ),
        (
            {"image": np.full((1, 2, 3), np.nan, np.float32)},
            InvalidInputError,
            r"inputs\.image\[0\]\[0\]\[0\]: found nan, expected a finite number",
        ),
        (
            {"image": np.zeros((5, 2, 3), np.float32)},
            TooLargeError,
            "found 5 rows, at most 4 are accepted in a request",
        ),
        (
            {"image": IMAGE, "words": np.full((2, 6), b"", object)},
            TooLargeError,
            r"inputs\.words: 2 rows x 6 \(its longest row\), at most 10 values",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    arrays: dict[str, Any], kind: type[ServingError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        READER.read(arrays)


def test_examples_that_would_be_padded_to_too_much_are_refused() -> None:
    reader = ArrayReader({"examples": InputSpec(dtype="string")}, Limits(4, 10, True))
    assert len(reader.read({"examples": np.array([b"12345", b"1"], object)})["examples"]) == 2
    with pytest.raises(TooLargeError, match=r"2 rows x 6 \(its longest text\)"):
        reader.read({"examples": np.array([b"123456", b"1"], object)})
