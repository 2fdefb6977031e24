"""Serialized tf.Examples read without TensorFlow; the bytes are made by hand.

tests/integration/engines compares the same parser with TensorFlow's.
"""

import struct

import numpy as np
import pytest

from contract.records.package import InputSpec
from serving.server.engines.engine import RefusedInputError
from serving.server.engines.examples import ExamplesParser


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field of a protocol buffer (all are shorter than 128 bytes)."""
    return bytes([number << 3 | 2, len(content)]) + content


def floats(*values: float) -> bytes:
    return field(2, field(1, struct.pack(f"<{len(values)}f", *values)))


def integers(*values: int) -> bytes:
    return field(3, field(1, bytes(values)))


def texts(*values: bytes) -> bytes:
    return field(1, b"".join(field(1, value) for value in values))


def example(**features: bytes) -> bytes:
    entries = (field(1, k.encode()) + field(2, v) for k, v in features.items())
    return field(1, b"".join(field(1, entry) for entry in entries))


def parse(specs: dict[str, InputSpec], *rows: bytes):
    return ExamplesParser(specs)(np.array([*rows, None], object)[:-1])


def test_every_kind_is_read_into_its_shape() -> None:
    specs = {
        "image": InputSpec(dtype="float32", shape=(2, 2)),
        "count": InputSpec(dtype="int64"),
        "word": InputSpec(dtype="string"),
    }
    row = example(image=floats(1, 2, 3, 4), count=integers(7), word=texts(b"red"))
    found = parse(specs, row, row)
    np.testing.assert_array_equal(found["image"], [[[1, 2], [3, 4]]] * 2)
    assert found["image"].dtype == np.float32
    assert found["count"].tolist() == [7, 7]
    assert found["word"].tolist() == [b"red", b"red"]


def test_a_missing_scalar_becomes_its_default_and_a_missing_list_an_empty_one() -> None:
    specs = {
        "colour": InputSpec(dtype="string", default="grey"),
        "ids": InputSpec(dtype="int64", is_variable_length=True),
    }
    found = parse(specs, example(), example(colour=texts(b"red"), ids=integers(4, 5)))
    assert found["colour"].tolist() == [b"grey", b"red"]
    assert found["ids"].tolist() == [[-(2**63)] * 2, [4, 5]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (example(), "x: required, but not in the tf.Example"),
        (example(x=integers(1)), "x: found a int64_list, expected a float_list"),
        (example(x=floats(1, 2)), "x: found 2 values, expected 1"),
        (b"\xff\xff", "could not parse a row as a tf.Example"),
    ],
)
def test_what_does_not_fit_is_refused(row: bytes, message: str) -> None:
    with pytest.raises(RefusedInputError, match=message):
        parse({"x": InputSpec(dtype="float32")}, row)
