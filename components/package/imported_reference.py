"""An imported SavedModel called in this process, by TensorFlow's second loader."""

import base64
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

_SHOWN = 200


def reference_answers(model: Path, signature: str, rows: Sequence[Any]) -> list[Any] | str:
    """Return each row's answer as REST words it; or in words why this loader has none.

    It does not open every model that the first one does, and refuses shapes that a graph takes.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of each old variable
    try:
        loaded = tf.saved_model.load(str(model))
        function = loaded.signatures[signature]
        return [_answer(function, row) for row in rows]
    except Exception as error:  # noqa: BLE001 (whatever a stranger's graph raises)
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"TensorFlow's second loader does not answer: {line[:_SHOWN]}"


def _answer(function: Any, row: Any) -> Any:
    specs = function.structured_input_signature[1]
    by_name = row if _is_named(row, specs) else {next(iter(specs)): row}
    inputs = {
        name: tf.constant(_values([by_name[name]], spec.dtype), spec.dtype)
        for name, spec in specs.items()
    }
    found = {name: _listed(tensor.numpy()[0], name) for name, tensor in function(**inputs).items()}
    return found if len(found) > 1 else next(iter(found.values()))


def _is_named(row: Any, specs: Mapping[str, Any]) -> bool:
    return isinstance(row, Mapping) and row.keys() == specs.keys()


def _values(value: Any, dtype: Any) -> Any:
    """Return lists with bytes in place of text; of numbers an array."""
    if dtype != tf.string:
        return np.array(value, dtype.as_numpy_dtype)
    if isinstance(value, list):
        return [_values(one, dtype) for one in value]
    if isinstance(value, Mapping):
        return base64.b64decode(value["b64"])
    return str(value).encode()


def _listed(array: Any, name: str) -> Any:
    value = array.tolist() if hasattr(array, "tolist") else array
    return _texts(value, is_binary=name.endswith("_bytes"))


def _texts(value: Any, is_binary: bool) -> Any:
    if isinstance(value, list):
        return [_texts(one, is_binary) for one in value]
    if not isinstance(value, bytes):
        return value
    return {"b64": base64.b64encode(value).decode()} if is_binary else value.decode()
