"""The Open Inference Protocol's tensors to and from arrays: raw bytes, typed contents, JSON.

Source: github.com/kserve/open-inference-protocol, and Triton's binary tensor extension
(docs/protocol/extension_binary_data.md), where each element of BYTES has its length in front, four
bytes, the lowest first.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class _Kind(NamedTuple):
    """A data type: NumPy's name, and the field of its typed contents; FP16 has none."""

    numpy: str
    field: str = ""


_KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "BOOL": _Kind("bool", "bool_contents"),
        "UINT8": _Kind("uint8", "uint_contents"),
        "UINT16": _Kind("uint16", "uint_contents"),
        "UINT32": _Kind("uint32", "uint_contents"),
        "UINT64": _Kind("uint64", "uint64_contents"),
        "INT8": _Kind("int8", "int_contents"),
        "INT16": _Kind("int16", "int_contents"),
        "INT32": _Kind("int32", "int_contents"),
        "INT64": _Kind("int64", "int64_contents"),
        "FP16": _Kind("float16"),
        "FP32": _Kind("float32", "fp32_contents"),
        "FP64": _Kind("float64", "fp64_contents"),
        "BYTES": _Kind("object", "bytes_contents"),
    }
)
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "bfloat16": "BF16",  # of outputs only, raw
        **{"string" if k.numpy == "object" else k.numpy: name for name, k in _KINDS.items()},
    }
)
_LENGTH = struct.Struct("<I")


def datatype_of(dtype: str) -> str:
    """Return the protocol's name of a model's type, such as `float32` or `string`.

    Raises:
        ValueError: If the protocol has none.
    """
    if (name := _NAMES.get(dtype)) is None:
        raise ValueError(f"the protocol has no type for {dtype}")
    return name


def datatype_of_array(array: Array) -> str:
    """Return the protocol's name of an array's type; see `datatype_of`."""
    return "BYTES" if array.dtype.kind in "OSU" else datatype_of(array.dtype.name)


def array_of_raw(datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """Return a tensor that came as raw bytes.

    Raises:
        ValueError: If they are not a whole tensor of this type and shape, with the reason.
    """
    kind, count = _checked(datatype, shape)
    if kind.numpy == "object":
        return _texts(raw, count).reshape(shape)
    size = np.dtype(kind.numpy).itemsize
    if len(raw) != count * size:
        raise ValueError(f"found {len(raw)} bytes, expected {count * size} for its shape and type")
    if kind.numpy == "bool":
        return np.frombuffer(raw, np.uint8).astype(np.bool_).reshape(shape)
    return np.frombuffer(raw, kind.numpy).reshape(shape)


def array_of_contents(datatype: str, shape: Sequence[int], contents: Any) -> Array:
    """Return a tensor that came in an InferTensorContents.

    Raises:
        ValueError: See `array_of_raw`.
    """
    kind, count = _checked(datatype, shape)
    if not kind.field:
        raise ValueError(f"{datatype} has no typed contents; send it in raw_input_contents")
    return _array(datatype, kind, list(getattr(contents, kind.field)), count).reshape(shape)


def array_of_json(datatype: str, shape: Sequence[int], data: Any) -> Array:
    """Return a tensor that came as JSON: a flat list, or lists in lists, in row-major order.

    Raises:
        ValueError: See `array_of_raw`.
    """
    kind, count = _checked(datatype, shape)
    flat = _flat(data, count)
    if kind.numpy == "object":
        if set(map(type, flat)) - {str}:
            raise ValueError("expected text in data of BYTES")
        flat = [text.encode() for text in flat]
    elif wrong := set(map(type, flat)) - _leaves(kind.numpy):
        raise ValueError(f"found {min(t.__name__ for t in wrong)} in data of {datatype}")
    return _array(datatype, kind, flat, count).reshape(shape)


def raw_of(array: Array) -> bytes:
    """Return an array as raw bytes."""
    if array.dtype.kind not in "OSU":
        return array.tobytes()
    texts = [v.encode() if isinstance(v, str) else v for v in array.ravel().tolist()]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def write_contents(contents: Any, array: Array) -> None:
    """Write an array into an empty InferTensorContents.

    Raises:
        ValueError: If the protocol has no field for its type.
    """
    kind = _KINDS.get(datatype_of_array(array))
    if kind is None or not kind.field:
        raise ValueError(f"{array.dtype.name} has no typed contents")
    values = array.ravel().tolist()
    if kind.numpy == "object":
        values = [v.encode() if isinstance(v, str) else v for v in values]
    getattr(contents, kind.field).extend(values)


def json_of(array: Array) -> list[Any]:
    """Return an array as a flat list for JSON.

    Raises:
        ValueError: If it has bytes that are not UTF-8 text.
    """
    flat = array.ravel().tolist()
    if array.dtype.kind != "O":
        return list(flat)
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in flat]
    except UnicodeDecodeError as error:
        raise ValueError("bytes that are not UTF-8 text; ask for them as binary data") from error


def _checked(datatype: str, shape: Sequence[int]) -> tuple[_Kind, int]:
    if (kind := _KINDS.get(datatype)) is None:
        raise ValueError(f"datatype: found {datatype[:50]!r}, expected one of {', '.join(_KINDS)}")
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {list(shape)} has a negative size")
    return kind, math.prod(shape)


def _array(datatype: str, kind: _Kind, values: list[Any], count: int) -> Array:
    if len(values) != count:
        raise ValueError(f"found {len(values)} values, expected {count} for its shape")
    try:
        return np.array(values, kind.numpy)
    except OverflowError as error:
        raise ValueError(f"a value does not fit into {datatype}") from error


def _flat(data: Any, count: int) -> list[Any]:
    """Return the leaves of lists in lists, which may be no more than the shape has."""
    if type(data) is not list:
        raise ValueError("data: expected a list")
    flat: list[Any] = data
    while flat and type(flat[0]) is list:
        if set(map(type, flat)) != {list}:
            raise ValueError("data: found values beside lists")
        flat = [value for part in flat for value in part]
        if len(flat) > count:
            break
    return flat


def _leaves(numpy: str) -> set[type]:
    if numpy == "bool":
        return {bool}
    return {int, float} if numpy.startswith("float") else {int}


def _texts(raw: bytes | memoryview, count: int) -> Array:
    if count * _LENGTH.size > len(raw):
        raise ValueError(f"found {len(raw)} bytes, too few for {count} elements with their lengths")
    texts = np.empty(count, object)
    place = 0
    for index in range(count):
        if place + _LENGTH.size > len(raw):
            raise ValueError(f"element {index}: cut off")
        (length,) = _LENGTH.unpack_from(raw, place)
        place += _LENGTH.size
        if place + length > len(raw):
            raise ValueError(f"element {index}: cut off")
        texts[index] = bytes(raw[place : place + length])
        place += length
    if place != len(raw):
        raise ValueError(f"found {len(raw) - place} bytes after {count} elements")
    return texts
