"""Raw examples: rows as callers send them, kept as tf.Examples in GZIP TFRecord shards.

A raw example holds the features under their own names (a missing value is absent),
`label:<head>` (int64 class index, or float32), `example_id` (bytes) and, where the config names
a weight column, `weight` (float32). `ingest` writes them; all readers use this module.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder, RecordBatchToExamplesEncoder

from components.data.example_bytes import can_encode, encode_examples
from components.data.raw_columns import ARROW_TYPES, ID, NUMPY_TYPES, WEIGHT
from components.data.shards import check_shards, read_shard
from components.data.tf_example import example_class
from contract.model_io import label_key
from contract.schema.data import FeatureConfig
from contract.schema.pipeline import PipelineConfig

Array = npt.NDArray[Any]

READ_ROWS = 4096  # rows decoded at once: some 12 MB of 28 by 28 images

_FEATURE_TYPES = {
    "float32": schema_pb2.FLOAT,
    "int64": schema_pb2.INT,
    "string": schema_pb2.BYTES,
}


@dataclass(frozen=True)
class RawColumns:
    """Rows by column.

    A scalar feature has shape `[rows]`, one with a shape `[rows, *shape]`; a variable-length one
    is an object array `[rows]` of one-dimensional arrays. Strings are object arrays of bytes.
    Labels are int64 class indices or float32, ids bytes, weights float32; all `[rows]`.
    """

    features: dict[str, Array]
    labels: dict[str, Array]
    ids: Array
    weights: Array | None

    def __len__(self) -> int:
        return len(self.ids)


def label_dtype(config: PipelineConfig, head: str) -> str:
    """Return `float32` for a regression head, `int64` (the class index) for the others."""
    return "float32" if config.heads[head].task == "regression" else "int64"


def raw_schema(config: PipelineConfig) -> schema_pb2.Schema:
    """Return the schema of raw examples, with the tensor that each column becomes.

    Scalars and fixed shapes become dense tensors (`[batch]`, `[batch, *shape]`, a missing scalar
    filled with its default), variable-length features ragged ones.
    """
    schema = schema_pb2.Schema()
    for name, feature in config.features.items():
        _add_feature(schema, name, feature)
    for head in config.heads:
        _add_feature(schema, label_key(head), FeatureConfig(dtype=label_dtype(config, head)))  # type: ignore[arg-type]
    _add_feature(schema, ID, FeatureConfig(dtype="string"))
    if config.weight is not None:
        _add_feature(schema, WEIGHT, FeatureConfig(dtype="float32"))
    return schema


def encode(batch: pa.RecordBatch, schema: schema_pb2.Schema | None = None) -> list[bytes]:
    """Serialize each row as a tf.Example, to the same bytes every time.

    Args:
        batch: Columns named as in the example; each a list array of float32, int64 or binary, where
            null means that the row lacks the value.
        schema: Names the features that the lists of a ragged column, and their lengths, become.
    """
    if can_encode(batch) and not _has_nested(schema):
        try:
            return encode_examples(batch)
        except OverflowError:
            if batch.num_rows > 1:
                half = batch.num_rows // 2
                return encode(batch.slice(0, half)) + encode(batch.slice(half))
    # The Arrow encoder leaves the order of features to chance; protobuf can sort them.
    parse = example_class().FromString
    encoded = RecordBatchToExamplesEncoder(schema).encode(batch)
    return [parse(example).SerializeToString(deterministic=True) for example in encoded]


def _has_nested(schema: schema_pb2.Schema | None) -> bool:
    """Tell whether a ragged column becomes several features: its values and its lengths."""
    groups = schema.tensor_representation_group.values() if schema is not None else ()
    return any(
        [*representation.ragged_tensor.feature_path.step] != [name]
        or bool(representation.ragged_tensor.partition)
        for group in groups
        for name, representation in group.tensor_representation.items()
        if representation.WhichOneof("kind") == "ragged_tensor"
    )


def encode_rows(rows: Sequence[Mapping[str, Any]], config: PipelineConfig) -> list[bytes]:
    """Serialize rows as an HTTP caller sends them (as `to_rows` returns) as raw tf.Examples.

    Only features are encoded; a feature that a row lacks, or has as None, is absent.

    Raises:
        ValueError: If a value cannot be read as its feature's type.
    """
    columns = {
        name: pa.array(
            [_flat(row.get(name), feature) for row in rows],
            pa.list_(ARROW_TYPES[feature.dtype]),
        )
        for name, feature in config.features.items()
    }
    return encode(pa.RecordBatch.from_pydict(columns))


def read_serialized(shards: Sequence[Path]) -> Iterator[list[bytes]]:
    """Yield the tf.Examples of GZIP TFRecord shards, in order, in lists of at most READ_ROWS.

    Raises:
        DataError: If a shard is missing, truncated or not a TFRecord file.
    """
    check_shards(shards)
    records = chain.from_iterable(read_shard(shard, "gzip") for shard in shards)
    while batch := list(islice(records, READ_ROWS)):
        yield batch


def read_arrow(shards: Sequence[Path], config: PipelineConfig) -> Iterator[pa.RecordBatch]:
    """Yield the rows of raw shards as they are stored: list arrays, null where a value is missing.

    Columns are those of `raw_schema`; at most READ_ROWS rows at once.
    """
    decoder = ExamplesToRecordBatchDecoder(raw_schema(config).SerializeToString())
    for examples in read_serialized(shards):
        yield decoder.DecodeBatch(examples)


def read_batches(shards: Sequence[Path], config: PipelineConfig) -> Iterator[RawColumns]:
    """Yield the rows of raw shards in order, at most READ_ROWS at once; defaults are filled in."""
    for batch in read_arrow(shards, config):
        yield to_columns(batch, config)


def read_rows(
    shards: Sequence[Path], config: PipelineConfig
) -> Iterator[tuple[RawColumns, list[bytes]]]:
    """Yield rows as `read_batches` does, with the tf.Examples that they came from."""
    decoder = ExamplesToRecordBatchDecoder(raw_schema(config).SerializeToString())
    for examples in read_serialized(shards):
        yield to_columns(decoder.DecodeBatch(examples), config), examples


def read_raw(
    shards: Sequence[Path], config: PipelineConfig, limit: int | None = None
) -> RawColumns:
    """Read raw shards into memory, or their first `limit` rows; defaults are filled in."""
    batches, count = [to_columns(_no_rows(config), config)], 0
    for batch in read_batches(shards, config):
        batches.append(batch)
        count += len(batch)
        if limit is not None and count >= limit:
            break
    return _joined(batches, limit)


def to_columns(batch: pa.RecordBatch, config: PipelineConfig) -> RawColumns:
    """Return rows as `read_arrow` yields them by column; defaults are filled in."""

    def column(name: str) -> pa.Array:
        return batch.column(batch.schema.get_field_index(name))

    features = {
        name: _ragged(column(name), feature)
        if feature.is_variable_length
        else _dense(column(name), feature)
        for name, feature in config.features.items()
    }
    labels = {
        head: _dense(column(label_key(head)), FeatureConfig(dtype=label_dtype(config, head)))  # type: ignore[arg-type]
        for head in config.heads
    }
    ids = _dense(column(ID), FeatureConfig(dtype="string"))
    weight = FeatureConfig(dtype="float32")
    weights = None if config.weight is None else _dense(column(WEIGHT), weight)
    return RawColumns(features, labels, ids, weights)


def to_rows(columns: RawColumns) -> list[dict[str, Any]]:
    """Return the features as rows that JSON can hold, as an HTTP caller would send them.

    Bytes that are not UTF-8 become `{"b64": "<base64>"}`, as in TensorFlow Serving's REST API.
    """
    values = {name: [_json(v) for v in column] for name, column in columns.features.items()}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


# --- schema -------------------------------------------------------------------------------------


def _add_feature(schema: schema_pb2.Schema, name: str, feature: FeatureConfig) -> None:
    described = schema.feature.add(name=name, type=_FEATURE_TYPES[feature.dtype])
    tensor = schema.tensor_representation_group[""].tensor_representation[name]
    if feature.is_variable_length:
        tensor.ragged_tensor.feature_path.step.append(name)
        tensor.ragged_tensor.row_partition_dtype = schema_pb2.TensorRepresentation.INT64
        return
    for size in feature.shape:
        described.shape.dim.add(size=size)
        tensor.dense_tensor.shape.dim.add(size=size)
    if not feature.shape:
        described.shape.SetInParent()
        tensor.dense_tensor.shape.SetInParent()
    tensor.dense_tensor.column_name = name
    if feature.default is None:
        described.presence.min_fraction = 1.0
    else:
        _set_default(tensor.dense_tensor.default_value, feature)


def _set_default(
    value: schema_pb2.TensorRepresentation.DefaultValue, feature: FeatureConfig
) -> None:
    match feature.dtype:
        case "float32":
            value.float_value = float(feature.default or 0.0)
        case "int64":
            value.int_value = int(feature.default or 0)
        case "string":
            value.bytes_value = str(feature.default).encode()


# --- columns ------------------------------------------------------------------------------------


def _no_rows(config: PipelineConfig) -> pa.RecordBatch:
    return ExamplesToRecordBatchDecoder(raw_schema(config).SerializeToString()).DecodeBatch([])


def _dense(column: pa.Array, feature: FeatureConfig) -> Array:
    """Return `[rows, *shape]`; rows that lack a scalar get its default."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    values = column.flatten().to_numpy(zero_copy_only=False)
    dtype = NUMPY_TYPES[feature.dtype]
    if feature.default is None:
        dense: Array = values.astype(dtype, copy=False).reshape(len(column), *feature.shape)
        return dense
    default: Any = feature.default
    if isinstance(default, str):
        default = default.encode()
    filled = np.full(len(column), default, dtype)
    filled[lengths > 0] = values
    return filled


def _ragged(column: pa.Array, feature: FeatureConfig) -> Array:
    rows = np.empty(len(column), object)
    for index, value in enumerate(column.to_pylist()):
        rows[index] = np.array(value or [], NUMPY_TYPES[feature.dtype])
    return rows


def _joined(batches: Sequence[RawColumns], limit: int | None) -> RawColumns:
    def join(parts: list[Array]) -> Array:
        whole: Array = np.concatenate(parts)
        part: Array = whole[:limit]
        return part

    first = batches[0]
    weights = [batch.weights for batch in batches if batch.weights is not None]
    return RawColumns(
        {name: join([b.features[name] for b in batches]) for name in first.features},
        {head: join([b.labels[head] for b in batches]) for head in first.labels},
        join([b.ids for b in batches]),
        join(weights) if weights else None,
    )


# --- rows ---------------------------------------------------------------------------------------


def _flat(value: Any, feature: FeatureConfig) -> list[Any] | None:
    if value is None:
        return None
    values = np.asarray(value, NUMPY_TYPES[feature.dtype]).ravel().tolist()
    if feature.dtype != "string":
        return values  # type: ignore[no-any-return]
    return [v.encode() if isinstance(v, str) else v for v in values]


def _json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_json(item) for item in value] if value.dtype == object else value.tolist()
    if isinstance(value, bytes):
        return _text(value)
    return value.item() if isinstance(value, np.generic) else value


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": b64encode(value).decode()}
