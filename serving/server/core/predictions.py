"""From a model's arrays to the JSON of TensorFlow Serving's answers."""

import base64
from typing import Any

import numpy as np
import orjson

from contract.schema.data import HeadConfig
from serving.server.engines.engine import Outputs


def predict_rows(outputs: Outputs) -> bytes:
    """Answer `:predict` with `instances`: an entry a row, unnamed if there is one output."""
    if len(outputs) == 1:
        name, array = next(iter(outputs.items()))
        return b'{"predictions":%b}' % _dump(listed(name, array))
    columns = {name: listed(name, array) for name, array in outputs.items()}
    rows = zip(*columns.values(), strict=True)
    return _dump({"predictions": [dict(zip(columns, row, strict=True)) for row in rows]})


def predict_columns(outputs: Outputs) -> bytes:
    """Answer `:predict` with `inputs`: one list by output, without a name if there is only one."""
    columns = {name: listed(name, array) for name, array in outputs.items()}
    only = next(iter(columns.values()))
    return _dump({"outputs": only if len(columns) == 1 else columns})


def classify(scores: np.ndarray, head: HeadConfig) -> bytes:
    """Answer `:classify`: per row `[label, score]` in the model's order of classes.

    Args:
        scores: Float, `[rows, classes]`.
        head: Names the classes.
    """
    results = [list(zip(head.classes, row, strict=True)) for row in scores.tolist()]
    return _dump({"results": results})


def regress(values: np.ndarray) -> bytes:
    """Answer `:regress`: one number a row."""
    return _dump({"results": values})


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def listed(name: str, array: np.ndarray) -> Any:
    """Return what orjson can write: numbers as they are, strings as text or base64 objects."""
    if array.dtype.kind not in "OSU":
        return np.ascontiguousarray(array) if array.ndim else array[()]
    return _texts(array.tolist(), is_binary=name.endswith("_bytes"))


def _texts(value: Any, is_binary: bool) -> Any:
    """Turn bytes into text. Outputs whose name ends in `_bytes` are base64, as in TF Serving."""
    if isinstance(value, list):
        return [_texts(item, is_binary) for item in value]
    if not isinstance(value, bytes):
        return value
    try:
        return {"b64": base64.b64encode(value).decode()} if is_binary else value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
