"""Serialized tf.Examples to columns, without TensorFlow.

It reads what `tf.io.parse_example` reads, by the same rules: a missing scalar becomes its default,
a missing list an empty one; what else is missing, of another kind or another size is refused.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from contract.model_io import NUMPY_DTYPES
from contract.records.package import InputSpec
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
        return _example_class().FromString(serialized).features.feature
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


@cache
def _example_class() -> Any:
    """Return the message class of tf.Example, described here so as not to import TensorFlow.

    Source: tensorflow/core/example/{example,feature}.proto; under another package name, which
    the wire does not carry.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="slipway/example.proto", package="slipway", syntax="proto3"
    )
    field = descriptor_pb2.FieldDescriptorProto
    for kind, of in (("Bytes", "BYTES"), ("Float", "FLOAT"), ("Int64", "INT64")):
        _message(file, f"{kind}List").field.add(
            name="value", number=1, label=field.LABEL_REPEATED, type=field.Type.Value(f"TYPE_{of}")
        )
    feature = _message(file, "Feature")
    feature.oneof_decl.add(name="kind")
    for number, kind in enumerate(("Bytes", "Float", "Int64"), start=1):
        _submessage(feature, f"{kind.lower()}_list", number, f"{kind}List").oneof_index = 0
    features = _message(file, "Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    _submessage(entry, "value", 2, "Feature")
    _submessage(features, "feature", 1, "Features.FeatureEntry").label = field.LABEL_REPEATED
    _submessage(_message(file, "Example"), "features", 1, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("slipway.Example"))


def _message(file: Any, name: str) -> Any:
    return file.message_type.add(name=name)


def _submessage(message: Any, name: str, number: int, of: str) -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    return message.field.add(
        name=name,
        number=number,
        label=field.LABEL_OPTIONAL,
        type=field.TYPE_MESSAGE,
        type_name=f".slipway.{of}",
    )
