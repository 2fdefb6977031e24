"""TensorFlow's TensorProto to and from arrays, by the rules of `tf.make_ndarray`.

Source: tensorflow/python/framework/tensor_util.py. Values come as raw bytes (`tensor_content`) or
in the field of their type, where the last one stands for all that are missing.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from contract.wire.tensorflow_serving import TensorProto

Array = np.ndarray[Any, Any]


class _Kind(NamedTuple):
    """A data type: its number in types.proto, NumPy's name, and the field of its values."""

    number: int
    numpy: str
    field: str
    stored_as: str = ""  # where the field holds the bits of a value, as what


_KINDS = (
    _Kind(1, "float32", "float_val"),
    _Kind(2, "float64", "double_val"),
    _Kind(3, "int32", "int_val"),
    _Kind(4, "uint8", "int_val"),
    _Kind(5, "int16", "int_val"),
    _Kind(6, "int8", "int_val"),
    _Kind(7, "object", "string_val"),
    _Kind(9, "int64", "int64_val"),
    _Kind(10, "bool", "bool_val"),
    _Kind(14, "bfloat16", "half_val", "uint16"),
    _Kind(17, "uint16", "int_val"),
    _Kind(19, "float16", "half_val", "uint16"),
    _Kind(22, "uint32", "uint32_val"),
    _Kind(23, "uint64", "uint64_val"),
)
# Made once: NumPy looks a type up by its name, or makes the name of one, in half the time that a
# small tensor takes to read.
_READ_AS: Mapping[int, np.dtype[Any]] = MappingProxyType(
    {kind.number: np.dtype("uint16" if kind.numpy == "bfloat16" else kind.numpy) for kind in _KINDS}
)
_BY_NUMBER: Mapping[int, _Kind] = MappingProxyType({kind.number: kind for kind in _KINDS})
_BY_NUMPY: Mapping[str, _Kind] = MappingProxyType({kind.numpy: kind for kind in _KINDS})
_STRING = _BY_NUMPY["object"]
# Without bfloat16, which NumPy knows only where its package has been imported.
_BY_DTYPE: Mapping[np.dtype[Any], _Kind] = MappingProxyType(
    {np.dtype(kind.numpy): kind for kind in _KINDS if kind.numpy != "bfloat16"}
)

# The tag of fields whose packed values stand in a message as NumPy holds them (encoding.proto:
# the field's number, and 2 for length-delimited). One by one they take 10 to 100 times as long.
_TAGS: Mapping[str, bytes] = MappingProxyType({"float_val": b"\x2a", "double_val": b"\x32"})

_MOST_DIMENSIONS = 64  # NumPy's; to multiply many thousands of sizes takes seconds

# By the names that models use for the types of their tensors, where text is `string`.
DATA_TYPES: Mapping[str, int] = MappingProxyType(
    {"string" if kind is _STRING else kind.numpy: kind.number for kind in _KINDS}
)


def array_of(tensor: Any, most_bytes: int) -> Array:
    """Return a tensor's values; text is an object array of bytes, bfloat16 is widened to float32.

    Args:
        tensor: A TensorProto.
        most_bytes: How large the array may be. A few bytes of a message can ask for gigabytes,
            because one value may stand for all.

    Raises:
        ValueError: If it is not a whole tensor of one of the types, with the reason.
    """
    if (kind := _BY_NUMBER.get(tensor.dtype)) is None:
        raise ValueError(f"type {tensor.dtype} is not supported")
    shape = _shape(tensor.tensor_shape)
    count = math.prod(shape)
    dtype = _READ_AS[kind.number]
    if count * dtype.itemsize > most_bytes:
        raise ValueError(f"shape {list(shape)} is larger than {most_bytes} bytes")
    if tensor.tensor_content and kind is not _STRING:
        flat = _of_content(tensor.tensor_content, dtype, count)
    else:
        flat = _of_values(tensor, kind, dtype, count)
    if kind.numpy == "bfloat16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape)


def filled_bytes(tensor: Any) -> int:
    """Return how many bytes of a tensor's array its message does not hold.

    One value stands for them, so a few bytes may ask for gigabytes. 0 if `array_of` refuses it.
    """
    kind = _BY_NUMBER.get(tensor.dtype)
    if kind is None or kind is _STRING or tensor.tensor_content:
        return 0
    try:
        count = math.prod(_shape(tensor.tensor_shape))
    except ValueError:
        return 0
    missing = count - len(getattr(tensor, kind.field))
    return max(0, missing) * _READ_AS[kind.number].itemsize


def tensor_of(array: Array) -> Any:
    """Return an array as a TensorProto with its values in the field of their type.

    That is what TensorFlow Serving answers, and what callers read from `float_val`.

    Raises:
        ValueError: If TensorFlow has no such type.
    """
    tensor = TensorProto()
    write_tensor(tensor, array)
    return tensor


def write_tensor(tensor: Any, array: Array) -> None:
    """Write an array into an empty TensorProto; see `tensor_of`."""
    dtype = array.dtype
    is_text = dtype.kind in "OSU"
    kind = _STRING if is_text else _BY_DTYPE.get(dtype) or _BY_NUMPY.get(dtype.name)
    if kind is None:
        raise ValueError(f"type {dtype.name} is not supported")
    tensor.dtype = kind.number
    dims = tensor.tensor_shape.dim
    for size in array.shape:
        dims.add(size=size)
    flat = array.ravel()
    if (tag := _TAGS.get(kind.field)) is not None and flat.size:
        tensor.MergeFromString(tag + _varint(flat.nbytes) + _little_endian(flat).tobytes())
        return
    if is_text:
        values = [v.encode() if isinstance(v, str) else v for v in flat.tolist()]
    else:
        values = (flat.view(kind.stored_as) if kind.stored_as else flat).tolist()
    getattr(tensor, kind.field).extend(values)


def _shape(shape: Any) -> tuple[int, ...]:
    if shape.unknown_rank:
        raise ValueError("a tensor without a shape")
    if len(shape.dim) > _MOST_DIMENSIONS:
        raise ValueError(f"found {len(shape.dim)} dimensions, expected at most {_MOST_DIMENSIONS}")
    sizes = tuple([dim.size for dim in shape.dim])
    if min(sizes, default=0) < 0:
        raise ValueError(f"shape {list(sizes)} has a negative size")
    return sizes


def _of_content(content: bytes, dtype: np.dtype[Any], count: int) -> Array:
    if len(content) != count * dtype.itemsize:
        raise ValueError(
            f"tensor_content has {len(content)} bytes, expected {count * dtype.itemsize} for its "
            "shape and type"
        )
    if dtype == np.bool_:  # any byte but 0 is true; NumPy would keep a byte that is not a boolean
        return np.frombuffer(content, np.uint8).astype(np.bool_)
    return np.frombuffer(content, dtype)


def _of_values(tensor: Any, kind: _Kind, dtype: np.dtype[Any], count: int) -> Array:
    values = getattr(tensor, kind.field)
    found = len(values)
    if found > count:
        raise ValueError(f"{kind.field} has {found} values, expected {count} for its shape")
    if kind is _STRING and found < count:
        # Not spread: each would be the same text, and a batch of them as large as it is long.
        raise ValueError(f"string_val has {found} values, expected {count} for its shape")
    try:
        flat = _packed(tensor, kind, dtype, found)
        if flat is None:
            flat = np.array(values[:], kind.stored_as or dtype)
    except OverflowError as error:
        raise ValueError(f"{kind.field}: a value does not fit into {kind.numpy}") from error
    if found < count:
        last = flat[-1] if found else flat.dtype.type(0)
        flat = np.concatenate([flat, np.full(count - found, last, flat.dtype)])
    return flat.view(dtype) if kind.stored_as else flat


def _packed(tensor: Any, kind: _Kind, dtype: np.dtype[Any], found: int) -> Array | None:
    """Return the values from the end of the tensor's bytes; None if they do not stand there."""
    if (tag := _TAGS.get(kind.field)) is None or not found:
        return None
    size = found * dtype.itemsize
    whole, head = tensor.SerializeToString(), tag + _varint(size)
    if not whole[:-size].endswith(head):  # another field behind them, which we do not know
        return None
    return np.frombuffer(whole[-size:], dtype.newbyteorder("<"))


def _little_endian(flat: Array) -> Array:
    return flat.astype(flat.dtype.newbyteorder("<"), copy=False)


def _varint(number: int) -> bytes:
    """Return a number as messages hold lengths: seven bits a byte, the least first."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*made, number))
