"""The JSON of TensorFlow Serving's REST API, written from tensors of any shape.

Source: tensorflow_serving/util/json_tensor.cc. NaN and infinity are written as `NaN`, `Infinity`
and `-Infinity`, which is no JSON.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from grpc import StatusCode

from serving.server.core.predictions import listed
from serving.server.engines.engine import is_finite
from serving.server.grpc.statuses import CallError

Array = np.ndarray[Any, Any]


def rows_json(outputs: Mapping[str, Array]) -> bytes:
    """Answer `instances`: an entry a row, an object if there are several outputs.

    Raises:
        CallError: If an output has no axis of rows, or another number of rows.
    """
    for name, array in outputs.items():
        if not array.ndim:
            raise _inconsistent(f"Tensor name: {name} has no shape information ")
    sizes = {name: len(array) for name, array in outputs.items()}
    rows = next(iter(sizes.values()))
    for name, size in sizes.items():
        if size != rows:
            raise _inconsistent(
                f"Tensor name: {name} has inconsistent batch size: {size} expecting: {rows}"
            )
    columns, writes = _writable(outputs)
    if len(columns) == 1:
        return writes({"predictions": next(iter(columns.values()))})
    lines = zip(*columns.values(), strict=True)
    return writes({"predictions": [dict(zip(columns, line, strict=True)) for line in lines]})


def columns_json(outputs: Mapping[str, Array]) -> bytes:
    """Answer `inputs`: the outputs by name, or the only one."""
    columns, writes = _writable(outputs)
    only = next(iter(columns.values()))
    return writes({"outputs": only if len(columns) == 1 else columns})


def results_json(results: Sequence[Any]) -> bytes:
    """Answer `:classify` (pairs of label and score for each example) or `:regress` (numbers)."""
    whole: list[Any] = [
        [[label, _number(score)] for label, score in one] if isinstance(one, list) else _number(one)
        for one in results
    ]
    return json.dumps({"results": whole}, ensure_ascii=False).encode()


def _writable(outputs: Mapping[str, Array]) -> tuple[dict[str, Any], Callable[[Any], bytes]]:
    """Return what can be written, and how: as JSON, or as more where a number is not finite."""
    whole = {n: a.astype(np.float32) if a.dtype.kind == "V" else a for n, a in outputs.items()}
    columns = {name: listed(name, array) for name, array in whole.items()}
    if all(map(is_finite, whole.values())):
        return columns, lambda value: orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    plain = {n: listed(n, a) if a.dtype.kind in "OSU" else _numbers(a) for n, a in whole.items()}
    return plain, lambda value: json.dumps(value, ensure_ascii=False).encode()


def _numbers(array: Array) -> Any:
    """Return nested lists with the shortest numbers that are the same in the array's type."""
    if array.dtype.kind != "f" or array.dtype == np.float64:
        return array.tolist()
    shortest = [float(str(one)) for one in array.ravel()]
    return np.array(shortest, np.float64).reshape(array.shape).tolist()


def _number(value: float) -> float:
    """Return the shortest number that is the same float32."""
    return float(str(np.float32(value)))


def _inconsistent(words: str) -> CallError:
    return CallError(StatusCode.INVALID_ARGUMENT, words)
