"""The JSON of TensorFlow Serving's REST API, read into tensors of any shape.

Source: tensorflow_serving/util/json_tensor.cc. A tensor has the shape that its JSON has; the
graph is the judge of it. `NaN`, `Infinity` and `-Infinity`, which are no JSON, are read.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
from grpc import StatusCode

from contract.wire.tensorflow_serving import Example
from contract.wire.tensors import DATA_TYPES
from serving.server.grpc.statuses import CallError
from serving.server.requests.base64_text import bytes_of_base64
from serving.standalone.messages import check_copies

Array = np.ndarray[Any, Any]

_SHOWN = 256  # characters of a value in a message
_MOST_DIMENSIONS = 64  # NumPy's
_NAMES = {number: name for name, number in DATA_TYPES.items()}
_WORDS = {"float32": "float", "float64": "double", "float16": "half"}  # TensorFlow's
_KINDS = {
    dict: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
    type(None): "Null",
}
_LEAVES: Mapping[str, frozenset[type]] = {
    "f": frozenset((int, float)),
    "V": frozenset((int, float)),  # bfloat16
    "i": frozenset((int,)),
    "u": frozenset((int,)),
    "b": frozenset((bool,)),
}


def read_object(content: bytes) -> dict[str, Any]:
    """Return a body.

    Raises:
        CallError: If it is not a JSON object.
    """
    if not content:
        raise _invalid("JSON Parse error: The document is empty")
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        try:  # which takes NaN and Infinity
            body = json.loads(content)
            if b"\\" in content or not content.isascii():
                json.dumps(body, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        except (ValueError, RecursionError):
            raise _invalid(f"JSON Parse error: {error}") from error
    if type(body) is not dict:
        raise _invalid(f"JSON Value: {_shown(body)} Is not object")
    name = body.get("signature_name", "")
    if type(name) is not str:
        raise _invalid(
            f"JSON Value: {_shown(body)} not formatted correctly. 'signature_name' key must be a "
            "string value."
        )
    return body


def is_by_row(body: Mapping[str, Any]) -> bool:
    """Tell whether a `:predict` body has rows (`instances`) or columns (`inputs`).

    Raises:
        CallError: If it has both or neither.
    """
    has_rows, has_columns = "instances" in body, "inputs" in body
    if has_rows and has_columns:
        raise _invalid(
            f"JSON Value: {_shown(body)} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist "
        )
    if not has_rows and not has_columns:
        raise _invalid("Missing 'inputs' or 'instances' key")
    if has_rows and type(body["instances"]) is not list:
        raise _invalid(f"JSON Value: {_shown(body)} Expecting 'instances' to be an list/array")
    if has_rows and not body["instances"]:
        raise _invalid(f"JSON Value: {_shown(body)} No values in 'instances' array")
    return has_rows


def tensors_of_rows(rows: Sequence[Any], signature: Any) -> dict[str, Array]:
    """Return the inputs of a signature, `[rows, ...]` each, from a list of values or objects.

    Raises:
        CallError: With the row and what is wrong with it.
    """
    infos = signature.inputs
    if type(rows[0]) is not dict or _is_base64(rows[0]):
        if len(infos) != 1:
            raise _invalid(
                "instances is a plain list, but expecting list of objects as multiple input "
                "tensors required as per tensorinfo_map"
            )
        for index, row in enumerate(rows):
            if type(row) is dict and not _is_base64(row):
                raise _invalid(f"Expecting value/list but got object at item {index} of input list")
        ((name, info),) = infos.items()
        return {name: _stacked(rows, info.dtype, "")}
    expected = set(infos)
    for index, row in enumerate(rows):
        if type(row) is not dict or _is_base64(row):
            raise _invalid(f"Expecting object but got list at item {index} of input list")
        if row.keys() != expected:
            raise _invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{_shown(row)} keys must be equal to: {','.join(sorted(expected))}"
            )
    return {
        name: _stacked([row[name] for row in rows], info.dtype, f" key: {name}")
        for name, info in infos.items()
    }


def tensors_of_columns(inputs: Any, signature: Any) -> dict[str, Array]:
    """Return the inputs of a signature from an object of tensors, or from the only one.

    Raises:
        CallError: If one is missing or no tensor.
    """
    infos = signature.inputs
    if type(inputs) is not dict or _is_base64(inputs):
        if len(infos) != 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        ((name, info),) = infos.items()
        return {name: dense(inputs, info.dtype)}
    for name in infos:
        if name not in inputs:
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: dense(inputs[name], info.dtype) for name, info in infos.items()}


def dense(value: Any, data_type: int) -> Array:
    """Return nested lists of one shape as an array of TensorFlow's data type.

    Raises:
        CallError: If they have not one shape, or a value has another type.
    """
    shape: list[int] = []
    level = [value]
    while level and type(level[0]) is list:
        if len(shape) == _MOST_DIMENSIONS:
            raise _invalid(
                f"JSON Value: {_shown(value)} has more than {_MOST_DIMENSIONS} dimensions"
            )
        for one in level if set(map(type, level)) != {list} else ():
            if type(one) is not list:
                raise _invalid(
                    f"JSON Value: {_shown(one)} found at incorrect level: {len(shape) + 1} in the "
                    "JSON DOM."
                )
        size = len(level[0])
        if others := set(map(len, level)) - {size}:
            raise _invalid(
                f"Encountered list at unexpected size: {others.pop()} at level: {len(shape)} "
                f"expected size: {size}"
            )
        shape.append(size)
        level = list(chain.from_iterable(level))
    return _leaves(level, data_type, len(shape)).reshape(shape)


def examples_of(body: Mapping[str, Any]) -> list[bytes]:
    """Return the serialized tf.Examples of a `:classify` or `:regress` body.

    Args:
        body: With `examples`, and `context`: features that all of them have.

    Raises:
        CallError: If they are not objects of features, or copies of the context are too large.
    """
    if "examples" not in body:
        raise _invalid(
            f"JSON Value: {_shown(body)} When method is classify, key 'examples' is expected and "
            "was not found"
        )
    rows = body["examples"]
    if type(rows) is not list:
        raise _invalid(f"JSON Value: {_shown(body)} Expecting 'examples' value to be an list/array")
    if not rows:
        raise _invalid(f"JSON Value: {_shown(body)} 'examples' value is an empty array")
    context = _example(body["context"]) if "context" in body else b""
    check_copies(len(context), len(rows))
    # Two messages one after the other are one message with the fields of both.
    return [context + _example(row) for row in rows]


# --- within -------------------------------------------------------------------------------------


def _stacked(values: Sequence[Any], data_type: int, key: str) -> Array:
    """Return one tensor from those of all rows, which must have one shape."""
    try:
        return dense(list(values), data_type)
    except CallError:
        first: Array | None = None
        for index, value in enumerate(values):
            where = f"Failed to process element: {index}{key} of 'instances' list. Error: "
            try:
                found = dense(value, data_type)
            except CallError as error:
                raise _invalid(f"{where}INVALID_ARGUMENT: {error}") from error
            first = found if first is None else first
            if found.shape != first.shape:
                raise _invalid(
                    f"{where}INVALID_ARGUMENT: Expecting shape {_shape(first)} but got: "
                    f"{_shape(found)}"
                ) from None
        raise


def _leaves(leaves: list[Any], data_type: int, level: int) -> Array:
    name = _NAMES.get(data_type, "")
    if name == "string":
        texts = np.empty(len(leaves), object)
        texts[:] = [_bytes(leaf, level) for leaf in leaves]
        return texts
    if not name:
        raise CallError(StatusCode.UNIMPLEMENTED, f"Conversion of JSON Values to type: {data_type}")
    dtype = np.dtype(name)
    expected = _LEAVES[dtype.kind]
    if not expected.issuperset(map(type, leaves)):
        raise _type_error(next(leaf for leaf in leaves if type(leaf) not in expected), name, level)
    try:
        if dtype.kind in "iu":
            return np.array(leaves, dtype)
        return (
            np.array(leaves, np.float64).astype(dtype)
            if dtype.kind in "fV"
            else (np.array(leaves, dtype))
        )
    except OverflowError:
        info = np.iinfo(dtype) if dtype.kind in "iu" else np.iinfo(np.int64)
        wrong = next((one for one in leaves if not info.min <= one <= info.max), leaves[0])
        raise _type_error(wrong, name, level) from None


def _bytes(leaf: Any, level: int) -> bytes:
    if type(leaf) is str:
        return leaf.encode()
    if not _is_base64(leaf):
        if type(leaf) is dict:
            raise _invalid(f"JSON Value: {_shown(leaf)} not formatted correctly for base64 data")
        raise _type_error(leaf, "string", level)
    try:
        return bytes_of_base64(leaf["b64"])
    except ValueError as error:
        raise _invalid("Unable to base64 decode") from error


def _type_error(leaf: Any, name: str, level: int) -> CallError:
    if type(leaf) is list:
        return _invalid(f"Encountered list at unexpected level: {level} expected < {level}")
    kind = str(leaf) if type(leaf) is bool else _KINDS[type(leaf)]
    return _invalid(
        f"JSON Value: {_shown(leaf)} Type: {kind} is not of expected type: {_WORDS.get(name, name)}"
    )


def _example(features: Any) -> bytes:
    if type(features) is not dict:
        kind = str(features) if type(features) is bool else _KINDS[type(features)]
        raise _invalid(f"Example must be JSON object but got JSON {kind}")
    example = Example()
    for name, values in features.items():
        feature = example.features.feature[name]
        for value in values if type(values) is list else [values]:
            _add(feature, name, value)
    return bytes(example.SerializeToString())


def _add(feature: Any, name: str, value: Any) -> None:
    """Add a value to a feature: whole numbers and booleans are int64, others float, text bytes."""
    kind = "bytes" if type(value) is str or _is_base64(value) else "int64"
    if type(value) is float:
        kind = "float"
    elif kind == "int64" and type(value) not in (int, bool):
        shown = _KINDS[type(value)]
        raise _invalid(f"Feature: {name} has element with unexpected JSON type: {shown}")
    has = feature.WhichOneof("kind")
    if has is not None and has != f"{kind}_list":
        raise _invalid(
            f"Unexpected element type in feature: {name} expecting type: "
            f"{has.removesuffix('_list')}"
        )
    try:
        getattr(feature, f"{kind}_list").value.append(
            _bytes(value, 0) if kind == "bytes" else value
        )
    except ValueError as error:
        raise _invalid(
            f"Feature: {name} has an element beyond int64. Only int64_t is supported."
        ) from error


def _is_base64(value: Any) -> bool:
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _shown(value: Any) -> str:
    """Return how a value begins; all of it may be megabytes, or a thousand levels deep."""
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) >= _SHOWN:
            break
    return text[:_SHOWN]


def _pieces(value: Any) -> Iterator[str]:
    """Yield a value as JSON; each level begins with a piece, and long texts are cut."""
    if type(value) is list:
        yield "["
        for index, one in enumerate(value):
            yield ", " if index else ""
            yield from _pieces(one)
        yield "]"
    elif type(value) is dict:
        yield "{"
        for index, (key, one) in enumerate(value.items()):
            yield f"{', ' if index else ''}{json.dumps(key[:_SHOWN])}: "
            yield from _pieces(one)
        yield "}"
    else:
        yield json.dumps(value[:_SHOWN] if type(value) is str else value)


def _invalid(words: str) -> CallError:
    return CallError(StatusCode.INVALID_ARGUMENT, words)
