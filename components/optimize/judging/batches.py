"""Rows for a signature, cut into batches, and what a SavedModel answers to them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from components.data.raw_examples import Array
from components.models.saved_models import LoadedModel

BATCH_ROWS = 256

Samples = Mapping[str, Mapping[str, Array]]  # by signature, then input: [rows, ...]
Answers = dict[str, dict[str, Array]]  # by signature, then output


def row_count(inputs: Mapping[str, Array]) -> int:
    """Return how many rows a signature's inputs hold; all inputs hold as many."""
    return len(next(iter(inputs.values()))) if inputs else 0


def feed(inputs: Mapping[str, Array], rows: Any) -> dict[str, tf.Tensor]:
    """Return some rows (a slice or indices) as a signature takes them.

    A column of one-dimensional arrays is a ragged input: the values of all rows under its own
    name and where each row begins and ends, `[rows + 1]`, under `<name>_1`, as TensorFlow names
    the parts of a ragged argument of a signature.
    """
    tensors: dict[str, tf.Tensor] = {}
    for name, column in inputs.items():
        part = column[rows]
        if is_ragged(column):
            lengths = [len(row) for row in part]
            tensors[name] = tf.constant(np.concatenate([*part, column[0][:0]]))
            tensors[f"{name}_1"] = tf.constant(np.cumsum([0, *lengths]), tf.int64)
        else:
            tensors[name] = tf.constant(part)
    return tensors


def is_ragged(column: Array) -> bool:
    """Tell whether a column's rows are separate arrays."""
    is_listed = column.dtype == object and column.ndim == 1 and len(column) > 0
    return is_listed and isinstance(column[0], np.ndarray)


def answers(model: LoadedModel, samples: Samples) -> Answers:
    """Return each signature's outputs for all sample rows."""
    return {name: answer(model.signature(name), samples[name]) for name in model.module.signatures}


def answer(call: Callable[..., Mapping[str, Any]], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return a signature's outputs for all rows; a ragged output as its values and its lengths.

    One that takes no inputs is called once.
    """
    starts = range(0, row_count(inputs) if inputs else 1, BATCH_ROWS)
    batches = [_dense(call(**feed(inputs, slice(start, start + BATCH_ROWS)))) for start in starts]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _dense(outputs: Mapping[str, Any]) -> dict[str, Array]:
    dense: dict[str, Array] = {}
    for name, value in outputs.items():
        if isinstance(value, tf.RaggedTensor):
            dense[name] = value.flat_values.numpy()
            for depth, lengths in enumerate(value.nested_row_lengths()):
                dense[f"{name}, lengths {depth}"] = lengths.numpy()
        elif isinstance(value, tf.SparseTensor):
            dense[name] = value.values.numpy()
            dense[f"{name}, indices"] = value.indices.numpy()
        else:
            dense[name] = np.atleast_1d(value.numpy())
    return dense
