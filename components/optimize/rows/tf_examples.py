"""A TFRecord file of tf.Examples as the signatures of any SavedModel take it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.example import example_pb2

from components.data.raw_examples import Array
from components.models.saved_models import LoadedModel
from components.optimize.chain import Data
from components.optimize.judging.batches import Samples
from components.optimize.judging.judgement import Evaluation, Truth
from components.optimize.judging.measure import main_signature
from contract.errors import DataError, NotFoundError, did_you_mean
from contract.schema.optimize import OptimizeConfig

_GZIP_MAGIC = b"\x1f\x8b"
_SCORES_RANK = 2  # [rows, classes]
_OPERATION = re.compile(r"^\{\{.*?\}\} (Name: <unknown>, )?")  # how TensorFlow begins its messages


def read_data(path: Path, model: LoadedModel, settings: OptimizeConfig, label: str = "") -> Data:
    """Read rows for every signature of a SavedModel, by the names of its inputs.

    A signature of one string input that no example has is fed serialized examples. An input of a
    fixed shape takes that many values; one axis of any length is filled up with zeros or "" to
    the longest row; a ragged argument (`x` and `x_1`) takes rows as they are.

    Args:
        path: TFRecord, plain or GZIP.
        model: Its signatures say what is needed.
        settings: `sample_rows` and `eval_rows` are read at most.
        label: A feature with the true class index (int64) or value (float) of the main
            signature's output; `output=feature` where it has several. Empty: agreement counts.

    Raises:
        NotFoundError: If there is no such file.
        DataError: If it holds no examples, or they lack what a signature takes.
    """
    records = _read(path, max(settings.sample_rows, settings.eval_rows))
    kept = {
        name: _inputs(path, records, name, model.input_specs(name))
        for name in model.module.signatures
    }
    samples: Samples = {
        name: {key: column[: settings.sample_rows] for key, column in inputs.items()}
        for name, inputs in kept.items()
    }
    name = main_signature(model.module.signatures)
    judged = {key: column[: settings.eval_rows] for key, column in kept[name].items()}
    outputs = model.signature(name).structured_outputs  # type: ignore[attr-defined]
    truths = (_truth(path, records[: settings.eval_rows], outputs, label),) if label else ()
    return Data(samples, Evaluation(name, judged, truths))


def _read(path: Path, rows: int) -> list[bytes]:
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file; expected a TFRecord file of tf.Examples")
    with path.open("rb") as file:
        compression = "GZIP" if file.read(2) == _GZIP_MAGIC else ""
    try:
        dataset = tf.data.TFRecordDataset(str(path), compression).take(rows)
        records = [bytes(record) for record in dataset.as_numpy_iterator()]
    except tf.errors.OpError as error:
        raise DataError(f"{path}: truncated or not a TFRecord file: {_in_words(error)}") from error
    if not records:
        raise DataError(f"{path}: holds no examples; at least one is needed")
    return records


def _inputs(
    path: Path, records: list[bytes], signature: str, specs: Mapping[str, tf.TensorSpec]
) -> dict[str, Array]:
    """Return the columns of a signature's inputs."""
    features = _features(path, records[0])
    if len(specs) == 1:
        (name, spec), *_ = specs.items()
        if spec.dtype == tf.string and name not in features:
            return {name: np.array(records, object)}
    columns = {}
    for name, spec in specs.items():
        if _is_row_splits(name, spec, specs, features):
            continue
        where = f"{path}: signature '{signature}' takes '{name}'"
        if name not in features:
            raise DataError(
                f"{where}, which the examples lack{did_you_mean(name, features)} (they have: "
                f"{', '.join(sorted(features))})"
            )
        is_ragged = _is_row_splits(f"{name}_1", specs.get(f"{name}_1"), specs, features)
        columns[name] = _column(where, records, name, spec, is_ragged)
    return columns


def _is_row_splits(
    name: str, spec: Any, specs: Mapping[str, Any], features: Mapping[str, Any]
) -> bool:
    """Tell whether an input is the second part of a ragged argument."""
    is_part = name.endswith("_1") and name.removesuffix("_1") in specs and name not in features
    return is_part and spec is not None and spec.dtype in (tf.int64, tf.int32)


def _features(path: Path, record: bytes) -> dict[str, str]:
    """Return the kind of each feature of a record: `bytes_list`, `float_list`, `int64_list`."""
    try:
        example = example_pb2.Example.FromString(record)
    except Exception as error:  # protobuf's DecodeError is not in its public API
        raise DataError(f"{path}: its records are not tf.Examples: {error}") from error
    return {name: one.WhichOneof("kind") for name, one in example.features.feature.items()}


def _column(
    where: str, records: list[bytes], name: str, spec: tf.TensorSpec, is_ragged: bool
) -> Array:
    """Return one input of all rows, `[rows, ...]`; ragged as an object array of arrays."""
    stored = _stored_dtype(spec.dtype)
    shape = spec.shape[1:] if spec.shape.rank else tf.TensorShape([])
    is_open = not is_ragged and shape.rank == 1 and shape[0] is None
    if spec.shape.rank is None or (not is_open and not shape.is_fully_defined()):
        raise DataError(f"{where} of shape {spec.shape}; only one axis beside rows may be open")
    if spec.shape.rank == 0:
        raise DataError(f"{where} of shape (), one value for all rows; export it with one a row")
    if not is_ragged and spec.shape[0] is not None:
        raise DataError(f"{where} of {spec.shape[0]} rows at a time; export it for any number")
    feature = (
        tf.io.RaggedFeature(stored, row_splits_dtype=tf.int64)
        if is_ragged or is_open
        else tf.io.FixedLenFeature(shape, stored)
    )
    try:
        value = tf.io.parse_example(records, {name: feature})[name]
    except (tf.errors.OpError, ValueError) as error:
        raise DataError(
            f"{where} of shape {shape} ({spec.dtype.name}): {_in_words(error)}"
        ) from error
    if is_open:
        value = value.to_tensor()
    if is_ragged:
        return _rows_of(value, spec)
    dense = value if spec.dtype == tf.string else tf.cast(value, spec.dtype)
    column: Array = dense.numpy()
    return column


def _in_words(error: Exception) -> str:
    """Return the first line of what a parser says, without the name of the operation before it."""
    first_line = (str(error).splitlines() or [""])[0]
    return _OPERATION.sub("", first_line)[:200]


def _rows_of(value: Any, spec: tf.TensorSpec) -> Array:
    rows = np.empty(value.nrows().numpy(), object)
    for index, row in enumerate(value):
        rows[index] = row.numpy().astype(spec.dtype.as_numpy_dtype)
    return rows


def _stored_dtype(dtype: tf.DType) -> tf.DType:
    """Return how a tf.Example stores values of a dtype."""
    if dtype == tf.string:
        return tf.string
    return tf.float32 if dtype.is_floating else tf.int64


def _truth(path: Path, records: list[bytes], outputs: Mapping[str, Any], label: str) -> Truth:
    """Return the labels of one output and, by the label's kind, the metric that judges it."""
    output, _, feature = label.rpartition("=")
    if not output and len(outputs) > 1:
        raise DataError(
            f"--label {label}: which of the outputs {', '.join(sorted(outputs))} does it belong "
            f"to? Say OUTPUT={feature}"
        )
    output = output or next(iter(outputs))
    if output not in outputs:
        raise DataError(f"--label {label}: no output '{output}'{did_you_mean(output, outputs)}")
    kinds = _features(path, records[0])
    if kinds.get(feature) not in ("int64_list", "float_list"):
        raise DataError(
            f"--label {label}: the examples of {path} have no number '{feature}'"
            f"{did_you_mean(feature, kinds)} (they have: {', '.join(sorted(kinds))})"
        )
    is_class = kinds[feature] == "int64_list"
    spec = tf.io.FixedLenFeature([], tf.int64 if is_class else tf.float32)
    try:
        labels = tf.io.parse_example(records, {feature: spec})[feature].numpy()
    except (tf.errors.OpError, ValueError) as error:
        raise DataError(
            f"--label {label}: the examples of {path} must have one number each: {_in_words(error)}"
        ) from error
    shape = outputs[output].shape
    if is_class and (shape.rank != _SCORES_RANK or shape[-1] == 1):
        raise DataError(
            f"--label {label}: a class needs an output of one score for each class, '{output}' "
            f"has shape {shape}"
        )
    if is_class and shape[-1] is not None and not 0 <= labels.min() <= labels.max() < shape[-1]:
        raise DataError(
            f"--label {label}: classes {labels.min()} to {labels.max()} in {path}; '{output}' has "
            f"scores for 0 to {shape[-1] - 1}"
        )
    if not is_class and shape.rank != 1 and shape[1:].num_elements() != 1:
        raise DataError(
            f"--label {label}: a value needs an output of one number a row, '{output}' has shape "
            f"{shape}; the class of scores is an int64 feature"
        )
    kind = ("multiclass_classification", "accuracy") if is_class else ("regression", "rmse")
    return Truth(output, *kind, labels, np.ones(len(labels), np.float32))
