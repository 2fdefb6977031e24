"""Serialized tf.Examples to columns, without TensorFlow.

It reads what `tf.io.parse_example` reads, by the same rules: a missing scalar becomes its default,
a missing list an empty one; what else is missing, of another kind or another size is refused.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from contract.model_io import NUMPY_DTYPES
from contract.records.package import InputSpec
from contract.wire.tensorflow_serving import Example
from serving.server.engines.engine import Columns, RefusedInputError

_KINDS = {"string": "bytes_list", "float32": "float_list", "int64": "int64_list"}


class ExamplesParser:
    """Parses batches of examples for one set of inputs."""

    def __init__(self, inputs: Mapping[str, InputSpec]) -> None:
        self._inputs = inputs

    def __call__(self, serialized: np.ndarray) -> Columns:
        """Return arrays `[rows, ...]` by input name from an object array of bytes.

        Raises:
            RefusedInputError: If a row is not a tf.Example, or not one of these inputs.
        """
        rows = [_features(row) for row in serialized]
        return {name: self._column(rows, name, spec) for name, spec in self._inputs.items()}

    def _column(self, rows: Iterable[Any], name: str, spec: InputSpec) -> np.ndarray:
        values = [_values(row.get(name), name, spec) for row in rows]
        if spec.is_variable_length:
            return _padded(values, spec)
        size = int(np.prod(spec.shape, dtype=int))
        for value in values:
            if len(value) != size:
                raise RefusedInputError(
                    f"{name}: found {len(value)} values, expected {size}", feature=name
                )
        flat = np.empty((len(values), size), NUMPY_DTYPES[spec.dtype])
        for index, value in enumerate(values):
            flat[index] = value
        return flat.reshape(len(values), *spec.shape)


def _features(serialized: bytes) -> Any:
    try:
        return Example.FromString(serialized).features.feature
    except DecodeError as error:
        raise RefusedInputError("could not parse a row as a tf.Example") from error


def _values(feature: Any, name: str, spec: InputSpec) -> Any:
    """Return one row's values; for what is missing the default, or nothing for a list."""
    kind = None if feature is None else feature.WhichOneof("kind")
    if kind is None:
        if spec.is_variable_length:
            return ()
        if spec.default is None:
            raise RefusedInputError(f"{name}: required, but not in the tf.Example", feature=name)
        return [spec.default.encode() if isinstance(spec.default, str) else spec.default]
    if kind != _KINDS[spec.dtype]:
        raise RefusedInputError(
            f"{name}: found a {kind}, expected a {_KINDS[spec.dtype]}", feature=name
        )
    return getattr(feature, kind).value


def _padded(values: list[Any], spec: InputSpec) -> np.ndarray:
    width = max(map(len, values), default=0)
    padded = np.full((len(values), width), spec.filler, NUMPY_DTYPES[spec.dtype])
    for index, value in enumerate(values):
        padded[index, : len(value)] = value
    return padded
