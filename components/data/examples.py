"""Transformed examples as tensors: found, read, parsed and sorted into batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from components.data.raw_columns import ID, WEIGHT
from components.data.shards import broken_shard, check_shards
from components.data.tfrecord_shards import compression_type
from contract.errors import DataError
from contract.layout import RunLayout
from contract.model_io import LABEL_PREFIX, SLICE_PREFIX, label_key, slice_key
from contract.records.data import TransformRecord
from contract.schema.pipeline import PipelineConfig

_PARSED_AT_ONCE = 1024  # a call of parse_example costs as much as some hundred examples
_INTERLEAVED_SHARDS = 8

Spec = Mapping[str, Any]
Columns = dict[str, Any]


class Batch(NamedTuple):
    """Some examples: `features` dense, `[batch, ...]`; `labels` by head, int64 class indices or
    float32 values, `[batch]`; `weights` float32 `[batch]`, ones where the config names no weight.
    """

    features: dict[str, tf.Tensor]
    labels: dict[str, tf.Tensor]
    weights: tf.Tensor


@dataclass(frozen=True)
class ExampleSource:
    """One split's shards, how to parse their examples, and how many there are."""

    shards: tuple[Path, ...]
    spec: Spec
    examples: int

    def records(self, names: Any) -> tf.data.Dataset:
        """Return the serialized examples of some of the shards, one file after the other."""
        return tf.data.TFRecordDataset(names, compression_type(self.shards[0]))


def feature_spec(transform_graph: Path) -> dict[str, Any]:
    """Return how `tf.io.parse_example` reads the transformed features, by name.

    Raises:
        DataError: If the transform graph is missing.
    """
    import tensorflow_transform as tft

    try:
        spec = tft.TFTransformOutput(str(transform_graph)).transformed_feature_spec()
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise DataError(f"{transform_graph}: not a transform graph: {error}") from error
    return {name: one for name, one in sorted(spec.items()) if not _is_reserved(name)}


def id_ranges(transform_graph: Path) -> dict[str, tuple[int, int]]:
    """Return the least and greatest id of the features whose range tf.Transform knows.

    Those are the outputs of its vocabularies, with the ids of values never seen.
    """
    import tensorflow_transform as tft

    schema = tft.TFTransformOutput(str(transform_graph)).transformed_metadata.schema
    return {
        feature.name: (feature.int_domain.min, feature.int_domain.max)
        for feature in schema.feature
        if feature.HasField("int_domain")
    }


def example_source(
    run: RunLayout, config: PipelineConfig, record: TransformRecord, split: str
) -> ExampleSource:
    """Return one split of what `transform` left.

    Raises:
        DataError: If the split has no examples, or a shard is missing or empty.
    """
    folder = run.step("transform")
    shards = tuple(folder / shard for shard in record.shards.get(split, ()))
    if not record.examples.get(split):
        raise DataError(f"{folder}: split '{split}' has no examples; check ingest.split")
    check_shards(shards)
    spec = example_spec(config, feature_spec(folder / record.transform_graph))
    return ExampleSource(shards, spec, record.examples[split])


def example_spec(config: PipelineConfig, features: Spec) -> dict[str, Any]:
    """Return the whole parse spec: features, labels, weight and slices."""
    spec = dict(features)
    for name, head in config.heads.items():
        dtype = tf.float32 if head.task == "regression" else tf.int64
        spec[label_key(name)] = tf.io.FixedLenFeature([], dtype)
    if config.weight is not None:
        spec[WEIGHT] = tf.io.FixedLenFeature([], tf.float32)
    for name in config.evaluate.slices:
        spec[slice_key(name)] = tf.io.FixedLenFeature([], tf.string)
    return spec


def load_columns(source: ExampleSource) -> Columns:
    """Parse all examples, in the shards' order: one tensor a column, ragged where rows differ.

    They stay in the host's memory, whatever accelerator there is.

    Raises:
        DataError: If a shard is truncated or corrupt, or there are not as many examples as
            `transform` counted; it names the file.
    """
    parts = _parsed(source, take=-1)
    found = sum(number_of_rows(part) for part in parts)
    if found != source.examples:
        raise DataError(
            broken_shard(source.shards)
            or f"{source.shards[0].parent}: found {found} examples, expected {source.examples}; "
            "run 'transform' again"
        )
    with tf.device("CPU"):
        return {name: tf.concat([part[name] for part in parts], axis=0) for name in source.spec}


def as_batch(columns: Columns) -> Batch:
    """Sort some rows of all columns into features, made dense, labels and weights."""
    labels = {
        n.removeprefix(LABEL_PREFIX): c for n, c in columns.items() if n.startswith(LABEL_PREFIX)
    }
    features = {n: c for n, c in columns.items() if not _is_reserved(n)}
    weights = columns.get(WEIGHT)
    if weights is None:
        weights = tf.ones(tf.shape(next(iter(labels.values()))), tf.float32)
    return Batch(model_inputs(features), labels, weights)


def slices_of(columns: Columns) -> dict[str, tf.Tensor]:
    """Return the slice values by feature, text as bytes, `[batch]`."""
    return {
        n.removeprefix(SLICE_PREFIX): c for n, c in columns.items() if n.startswith(SLICE_PREFIX)
    }


def model_inputs(transformed: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Turn transformed features into what the model takes: dense tensors.

    Ragged and sparse features become `[batch, longest]`, padded at the end with 0, or "" for text.
    Keras 3.15 takes ragged inputs, but of its sequence layers Dense, Conv1D, LSTM and
    MultiHeadAttention refuse them (tried); padded ones work everywhere, under XLA, and survive the
    freezing of the graph. The width is at least 1, because pooling over nothing gives NaN.
    """
    return {name: _dense(value) for name, value in transformed.items()}


def explain(error: tf.errors.OpError, source: ExampleSource) -> DataError:
    """Return the DataError behind a failed read; it names the shard that is broken, if one is."""
    return DataError(
        broken_shard(source.shards)
        or f"{source.shards[0].parent}: examples are not as 'transform' wrote them: {error.message}"
    )


def sample_columns(source: ExampleSource) -> Columns:
    """Parse the first thousand examples; empty where there are none."""
    return next(iter(_parsed(source, take=1)), {})


def parser(spec: Spec) -> Callable[[tf.Tensor], Columns]:
    """Return what parses a batch of serialized examples; list columns become ragged."""

    def parse(serialized: tf.Tensor) -> Columns:
        return {n: _uniform(c) for n, c in tf.io.parse_example(serialized, dict(spec)).items()}

    return parse


def number_of_rows(columns: Columns) -> int:
    """Return how many examples the columns hold."""
    return int(next(c for n, c in columns.items() if n.startswith(LABEL_PREFIX)).shape[0])


def is_slice(name: str) -> bool:
    """Tell whether a column holds slice values, which only evaluation reads."""
    return name.startswith(SLICE_PREFIX)


def _parsed(source: ExampleSource, take: int) -> list[Columns]:
    serialized = tf.data.Dataset.from_tensor_slices(_names(source)).interleave(
        source.records,
        cycle_length=_INTERLEAVED_SHARDS,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    batches = serialized.batch(_PARSED_AT_ONCE).take(take)
    try:
        return list(batches.map(parser(source.spec), num_parallel_calls=tf.data.AUTOTUNE))
    except tf.errors.OpError as error:
        raise explain(error, source) from error


def _uniform(column: Any) -> Any:
    """Return a list column as ragged, which can be gathered by row, whatever it was written as."""
    is_sparse = isinstance(column, tf.SparseTensor)
    return tf.RaggedTensor.from_sparse(column) if is_sparse else column


def _dense(value: Any) -> tf.Tensor:
    if isinstance(value, tf.Tensor):
        return value
    default: Any = "" if value.dtype == tf.string else 0
    if isinstance(value, tf.RaggedTensor):
        dense = value.to_tensor(default_value=tf.constant(default, value.dtype))
    else:
        dense = tf.sparse.to_dense(value, default_value=tf.constant(default, value.dtype))
    missing = tf.maximum(0, 1 - tf.shape(dense)[1])
    paddings = [[0, 0], [0, missing], *([[0, 0]] * (dense.shape.rank - 2))]
    return tf.pad(dense, paddings, constant_values=tf.constant(default, value.dtype))


def _names(source: ExampleSource) -> list[str]:
    return [str(shard) for shard in source.shards]


def _is_reserved(name: str) -> bool:
    return name.startswith((LABEL_PREFIX, SLICE_PREFIX)) or name in (ID, WEIGHT)
