"""TensorProto to arrays and back, by hand-written messages."""

from typing import Any

import numpy as np
import pytest

from contract.wire.tensorflow_serving import TensorProto
from contract.wire.tensors import DATA_TYPES, array_of, filled_bytes, tensor_of

MOST = 1 << 20


def proto(dtype: int, *sizes: int, **fields: Any) -> Any:
    tensor = TensorProto(dtype=dtype, **fields)
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float32", [[1.5, -2.0], [3.0, 0.1]]),
        ("float64", [1e300, -1.0]),
        ("float16", [0.5, 65504.0]),
        ("int8", [-128, 127]),
        ("int16", [-5, 7]),
        ("int32", [2**31 - 1]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint8", [0, 255]),
        ("uint16", [65535]),
        ("uint32", [2**32 - 1]),
        ("uint64", [2**64 - 1]),
        ("bool", [True, False]),
        ("object", [[b"a", b"\xff"], [b"", b"text"]]),
    ],
)
def test_what_is_written_is_read_as_it_was(dtype: str, values: list[Any]) -> None:
    array = np.array(values, dtype)
    found = array_of(TensorProto.FromString(tensor_of(array).SerializeToString()), MOST)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_numbers_are_answered_in_the_field_that_callers_read() -> None:
    # tag 1 varint 1; tag 2: dim of size 2; tag 5: two packed floats, 1.0 and 2.0
    expected = bytes.fromhex("08011204120208022a080000803f00000040")
    assert tensor_of(np.array([1, 2], np.float32)).SerializeToString() == expected


def test_raw_bytes_are_read_by_type_and_shape() -> None:
    raw = np.array([[1, 2, 3]], np.int64).tobytes()
    assert array_of(proto(9, 1, 3, tensor_content=raw), MOST).tolist() == [[1, 2, 3]]
    assert array_of(proto(10, 2, tensor_content=b"\x02\x00"), MOST).tolist() == [True, False]


def test_one_value_stands_for_all_and_none_for_zero() -> None:
    assert array_of(proto(1, 2, 2, float_val=[7]), MOST).tolist() == [[7, 7], [7, 7]]
    assert array_of(proto(1, 3, float_val=[1, 2]), MOST).tolist() == [1, 2, 2]
    assert array_of(proto(3, 2), MOST).tolist() == [0, 0]


def test_a_scalar_has_no_axes() -> None:
    assert array_of(proto(1, float_val=[4]), MOST).shape == ()


def test_bfloat16_is_widened() -> None:
    # 0x3f80 and 0xc000 are the upper halves of float32's 1.0 and -2.0
    assert array_of(proto(14, 2, half_val=[0x3F80, 0xC000]), MOST).tolist() == [1.0, -2.0]
    raw = bytes.fromhex("803f00c0")
    found = array_of(proto(14, 2, tensor_content=raw), MOST)
    assert (found.dtype, found.tolist()) == (np.float32, [1.0, -2.0])


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (proto(0, 1), "type 0 is not supported"),
        (proto(8, 1), "type 8 is not supported"),  # complex64
        (proto(1, -1), r"shape \[-1\] has a negative size"),
        (proto(1, 2, tensor_content=b"1234567"), "has 7 bytes, expected 8 for its shape and type"),
        (proto(1, 2, float_val=[1, 2, 3]), "float_val has 3 values, expected 2 for its shape"),
        (proto(7, 2, string_val=[b"a"]), "string_val has 1 values, expected 2 for its shape"),
        (proto(1, 1 << 20, float_val=[1]), "is larger than 1048576 bytes"),
        (proto(1, 1 << 40, 1 << 40), "is larger than 1048576 bytes"),
        (proto(6, 1, int_val=[200]), "int_val: a value does not fit into int8"),
    ],
)
def test_what_is_no_whole_tensor_is_refused(tensor: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        array_of(tensor, MOST)


def test_a_tensor_without_a_shape_is_refused() -> None:
    tensor = proto(1)
    tensor.tensor_shape.unknown_rank = True
    with pytest.raises(ValueError, match="a tensor without a shape"):
        array_of(tensor, MOST)


def test_an_array_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="type complex64 is not supported"):
        tensor_of(np.array([1j], np.complex64))


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (proto(1, 2, 2, float_val=[7]), 12),
        (proto(9, 5), 40),
        (proto(14, 3, half_val=[1]), 4),
        (proto(1, 2, float_val=[1, 2]), 0),
        (proto(1, 0, 1 << 62), 0),
        (proto(9, 3, tensor_content=bytes(24)), 0),
        (proto(7, 1 << 40, string_val=[b"a"]), 0),  # refused, as all that follow
        (proto(1, -2, -2), 0),
        (proto(1, 1, float_val=[1, 2]), 0),
        (proto(99, 5), 0),
        (proto(1, *[1 << 62] * 1000), 0),
    ],
)
def test_what_one_value_stands_for_is_counted(tensor: Any, expected: int) -> None:
    assert filled_bytes(tensor) == expected


def test_more_dimensions_than_an_array_may_have_are_refused() -> None:
    assert array_of(proto(1, *[1] * 64, float_val=[1]), MOST).ndim == 64
    with pytest.raises(ValueError, match="found 65 dimensions, expected at most 64"):
        array_of(proto(1, *[1] * 65, float_val=[1]), MOST)


def test_values_are_found_whatever_stands_behind_them() -> None:
    tensor = tensor_of(np.array([[1.5, -2.0], [3.0, 0.25]], np.float32))
    unknown = b"\xfa\x07\x02hi"  # field 127, two bytes
    for message in (tensor, TensorProto.FromString(tensor.SerializeToString() + unknown)):
        assert array_of(message, MOST).tolist() == [[1.5, -2.0], [3.0, 0.25]]


def test_many_values_are_written_as_tensorflow_writes_them() -> None:
    values = [0.5 * number for number in range(300)]  # their length takes two bytes
    for field, dtype in (("float_val", np.float32), ("double_val", np.float64)):
        one_by_one = TensorProto(tensor_shape={"dim": [{"size": 300}]}, **{field: values})
        one_by_one.dtype = DATA_TYPES[np.dtype(dtype).name]
        assert tensor_of(np.array(values, dtype)).SerializeToString() == (
            one_by_one.SerializeToString()
        )
