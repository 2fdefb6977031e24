"""Transformed examples one by one, and a Keras model that is asked for any of them together."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.data.raw_examples import Array
from components.models.user_model import head_outputs, head_scores
from components.quality.answer_distances import rounded_otherwise
from components.quality.row_independence import Ask, Row, Subject, telling_rows
from contract.schema.pipeline import PipelineConfig

ScoresOf = Callable[[dict[str, tf.Tensor]], Mapping[str, tf.Tensor]]


def telling_rows_of(features: Mapping[str, Any]) -> list[Row]:
    """Return a few dozen rows of transformed features, short ones and long ones among them.

    Args:
        features: By name, tensors `[rows, ...]` or ragged ones, as `examples.load_columns` returns.

    Returns:
        Arrays by feature; a ragged feature's has as many values as the row.
    """
    count = int(next(iter(features.values())).shape[0])
    ragged = {name: column for name, column in features.items() if _is_ragged(column)}
    lengths = {name: column.row_lengths().numpy() for name, column in ragged.items()}
    return [
        {name: _value(column, index) for name, column in features.items()}
        for index in telling_rows(lengths, count)
    ]


def scores_function(
    model: keras.Model, config: PipelineConfig, features: Mapping[str, Any]
) -> ScoresOf:
    """Return a model's answers by head as a graph for any number of rows, traced once.

    Args:
        model: May get other weights later.
        config: Names its heads.
        features: By name, tensors `[rows, ...]` or ragged ones; the function takes them dense.
    """
    specs = {name: _dense_spec(column) for name, column in features.items()}

    @tf.function(autograph=False, input_signature=[specs])  # type: ignore[untyped-decorator]
    def scores_of(dense: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return head_scores(config, head_outputs(model, config, dense, training=False))

    return scores_of  # type: ignore[no-any-return]


def model_subject(model: keras.Model, scores_of: ScoresOf, lists: frozenset[str]) -> Subject:
    """Return a model to be asked for rows of `telling_rows_of`.

    Args:
        model: Has its weights.
        scores_of: Its `scores_function`.
        lists: The features that are ragged.
    """
    return Subject(_asking(scores_of, lists), lists, lambda: _weights_rounded_otherwise(model))


def padded(values: Sequence[Array]) -> Array:
    """Return lists as `examples.model_inputs` does: `[rows, longest, ...]`, filled with 0 or ""."""
    shape = np.max([value.shape for value in values], axis=0)
    shape[0] = max(1, shape[0])
    dense: Array = np.full((len(values), *shape), b"" if values[0].dtype == object else 0)
    dense = dense.astype(values[0].dtype)
    for row, value in enumerate(values):
        place: tuple[Any, ...] = (row, *map(slice, value.shape))
        dense[place] = value
    return dense


@contextmanager
def exact_float32() -> Iterator[None]:
    """Let GPUs multiply float32 numbers with all their digits: TensorFloat-32 keeps 10 bits."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


# --- inside -------------------------------------------------------------------------------------


@contextmanager
def _weights_rounded_otherwise(model: keras.Model) -> Iterator[None]:
    random, before = np.random.default_rng(0), model.get_weights()
    model.set_weights([rounded_otherwise(weight, random) for weight in before])
    try:
        yield
    finally:
        model.set_weights(before)


def _asking(scores_of: ScoresOf, lists: frozenset[str]) -> Ask:
    def ask(rows: Sequence[Row]) -> dict[str, Array]:
        inputs = {}
        for name in rows[0]:
            values = [row[name] for row in rows]
            inputs[name] = tf.constant(padded(values) if name in lists else np.stack(values))
        with exact_float32(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of axes of size 1, which one row has
            return {head: one.numpy() for head, one in scores_of(inputs).items()}

    return ask


def _dense_spec(column: Any) -> tf.TensorSpec:
    """Return what a column is when it is dense: rows in any number, lists of any length."""
    open_axes = 1 + (column.ragged_rank if _is_ragged(column) else 0)
    return tf.TensorSpec([None] * open_axes + column.shape[open_axes:].as_list(), column.dtype)


def _is_ragged(column: Any) -> bool:
    return isinstance(column, tf.RaggedTensor)


def _value(column: Any, index: int) -> Array:
    """Return one row as an array; of lists of lists the inner ones are filled up."""
    value = column[index]
    dense = value.to_tensor() if _is_ragged(value) else value
    return np.asarray(dense.numpy())
