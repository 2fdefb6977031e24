"""From what callers have to arrays of a model's types, and to JSON and back."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contract.records.package import InputSpec

Array = np.ndarray[Any, Any]

# What pads the shorter rows of an input of variable length.
_FILLERS: dict[str, Any] = {
    "string": InputSpec(dtype="string").filler,
    "int64": InputSpec(dtype="int64").filler,
    "float32": InputSpec(dtype="float32").filler,
}


@dataclass(frozen=True)
class Tensor:
    """The type of one input or output: `float32`, `string` and so on; None is any size."""

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def is_variable_length(self) -> bool:
        """Whether rows may be lists of any length."""
        return self.shape == (None, None) and self.dtype in _FILLERS


def column_of(value: Any, tensor: Tensor) -> Array:
    """Return a value as the model's type; lists of different length become one padded array.

    Raises:
        ValueError: If it cannot be one (TypeError and OverflowError likewise).
    """
    if isinstance(value, np.ndarray):
        array = value
    elif tensor.is_variable_length:
        array = _padded([list(row) for row in value], tensor.dtype)
    else:
        array = np.array(value, object if tensor.dtype == "string" else None)
    if tensor.dtype != "string":
        if array.dtype.kind not in "biuf":
            raise ValueError(f"found {array.dtype}")
        return _cast(array, np.dtype(tensor.dtype))
    texts = np.empty(array.size, object)
    texts[:] = [_bytes(text) for text in array.ravel().tolist()]
    return texts.reshape(array.shape)


def json_of(array: Array, tensor: Tensor) -> list[Any]:
    """Return a column as JSON has it: without the padding, bytes that are not text as base64."""
    rows: list[Any] = array.tolist()
    if tensor.is_variable_length:
        filler = _FILLERS[tensor.dtype]
        rows = [[x for x in row if x == x and x != filler] for row in rows]
    return [_written(row) for row in rows]


def array_of_json(values: Any, tensor: Tensor) -> Array:
    """Return an output that came as JSON."""
    if tensor.dtype != "string":
        return np.array(values, tensor.dtype if tensor.dtype != "bfloat16" else np.float32)
    return np.array(_unwritten(values), object)


def _padded(rows: Sequence[list[Any]], dtype: str) -> Array:
    width = max(map(len, rows), default=0)
    padded = np.full(
        (len(rows), width), _FILLERS[dtype], object if dtype == "string" else np.dtype(dtype)
    )
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def _cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return the array in a type that holds its values; a fraction does not become whole."""
    is_rounded = dtype.kind in "iu" and array.dtype.kind == "f"
    if is_rounded or (dtype.kind == "b" and array.dtype.kind != "b"):
        raise ValueError(f"found {array.dtype}")
    cast = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(cast, array):
        raise OverflowError("a value does not fit")
    return cast


def _bytes(text: Any) -> bytes:
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise TypeError(f"found {type(text).__name__}")
    return text.encode()


def _written(value: Any) -> Any:
    if isinstance(value, list):
        return [_written(one) for one in value]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _unwritten(value: Any) -> Any:
    if isinstance(value, list):
        return [_unwritten(one) for one in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()
