"""The Open Inference Protocol's tensors: raw bytes, typed contents and JSON, by hand."""

from typing import Any

import numpy as np
import pytest

from contract.wire import open_inference  # noqa: F401 (fills the pool)
from contract.wire.descriptors import message_class
from contract.wire.open_tensors import (
    array_of_contents,
    array_of_json,
    array_of_raw,
    datatype_of,
    json_of,
    raw_of,
    write_contents,
)

Contents = message_class("inference.InferTensorContents")

VALUES: list[tuple[str, str, list[Any]]] = [
    ("BOOL", "bool", [True, False]),
    ("UINT8", "uint8", [0, 255]),
    ("UINT16", "uint16", [65535, 1]),
    ("UINT32", "uint32", [2**32 - 1, 1]),
    ("UINT64", "uint64", [2**64 - 1, 1]),
    ("INT8", "int8", [-128, 127]),
    ("INT16", "int16", [-5, 7]),
    ("INT32", "int32", [-(2**31), 1]),
    ("INT64", "int64", [-(2**63), 1]),
    ("FP16", "float16", [0.5, -2.0]),
    ("FP32", "float32", [0.5, -2.0]),
    ("FP64", "float64", [1e300, -2.0]),
    ("BYTES", "object", [b"a\xff", b""]),
]


@pytest.mark.parametrize(("datatype", "dtype", "values"), VALUES)
def test_raw_bytes_are_read_as_they_were_written(datatype, dtype, values) -> None:
    array = np.array([values], dtype)
    found = array_of_raw(datatype, [1, 2], raw_of(array))
    assert (found.dtype, found.tolist()) == (array.dtype, array.tolist())


@pytest.mark.parametrize(
    ("datatype", "dtype", "values"), [case for case in VALUES if case[0] != "FP16"]
)
def test_typed_contents_are_read_as_they_were_written(datatype, dtype, values) -> None:
    contents = Contents()
    write_contents(contents, np.array([values], dtype))
    assert array_of_contents(datatype, [1, 2], contents).tolist() == [values]


def test_text_has_its_length_in_front() -> None:
    assert raw_of(np.array([b"ab", b""], object)) == b"\x02\0\0\0ab\0\0\0\0"


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]]])
def test_json_may_be_flat_or_nested(data) -> None:
    found = array_of_json("FP32", [2, 2], data)
    assert (found.dtype, found.tolist()) == (np.float32, [[1, 2], [3, 4]])


def test_json_of_text_and_of_numbers() -> None:
    assert json_of(np.array([[b"a", "ü".encode()]], object)) == ["a", "ü"]
    assert json_of(np.array([[1, 2]], np.int64)) == [1, 2]
    with pytest.raises(ValueError, match="not UTF-8 text; ask for them as binary data"):
        json_of(np.array([b"\xff"], object))


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "words"),
    [
        ("FLOAT", [1], b"", r"datatype: found 'FLOAT', expected one of BOOL, UINT8"),
        ("FP32", [-1], b"", r"shape \[-1\] has a negative size"),
        ("FP32", [2], b"1234567", "found 7 bytes, expected 8 for its shape and type"),
        ("BYTES", [2], b"\x01\0\0\0a", "found 5 bytes, too few for 2 elements"),
        ("BYTES", [1], b"\x05\0\0\0a", "element 0: cut off"),
        ("BYTES", [2], b"\x04\0\0\0abcd", "element 1: cut off"),
        ("BYTES", [1], b"\x01\0\0\0ab", "found 1 bytes after 1 elements"),
        ("BYTES", [1 << 40], b"", "too few for 1099511627776 elements"),
    ],
)
def test_raw_bytes_that_are_no_whole_tensor_are_refused(datatype, shape, raw, words) -> None:
    with pytest.raises(ValueError, match=words):
        array_of_raw(datatype, shape, raw)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "words"),
    [
        ("FP32", [2], [1], "found 1 values, expected 2 for its shape"),
        ("FP32", [1], 1.0, "data: expected a list"),
        ("FP32", [2], [[1], 2], "data: found values beside lists"),
        ("INT64", [1], [1.5], "found float in data of INT64"),
        ("INT64", [1], [True], "found bool in data of INT64"),
        ("FP32", [1], ["1"], "found str in data of FP32"),
        ("INT8", [1], [200], "a value does not fit into INT8"),
        ("BYTES", [1], [1], "expected text in data of BYTES"),
    ],
)
def test_json_that_does_not_fit_is_refused(datatype, shape, data, words) -> None:
    with pytest.raises(ValueError, match=words):
        array_of_json(datatype, shape, data)


def test_half_floats_have_no_typed_contents() -> None:
    with pytest.raises(ValueError, match="FP16 has no typed contents; send it in raw_input_cont"):
        array_of_contents("FP16", [1], Contents())
    with pytest.raises(ValueError, match="float16 has no typed contents"):
        write_contents(Contents(), np.array([1], np.float16))


def test_a_type_that_the_protocol_lacks_is_refused() -> None:
    assert [datatype_of(name) for name in ("float32", "string")] == ["FP32", "BYTES"]
    with pytest.raises(ValueError, match="no type for complex64"):
        datatype_of("complex64")
