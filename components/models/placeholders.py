"""The features that `preprocessing_fn` will give the model, known before any row is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from components.data.raw_examples import Array
from components.models.user_code import library_refusals
from contract.schema.data import FeatureConfig
from contract.schema.pipeline import PipelineConfig


@dataclass(frozen=True)
class Placeholder:
    """A transformed feature: the shape of one example, None where rows differ, and its type.

    `least` is the smallest id where the values are ids of a vocabulary, else None.
    """

    shape: tuple[int | None, ...]
    dtype: str
    least: int | None = None

    @property
    def is_padded(self) -> bool:
        """Whether shorter rows are filled up."""
        return None in self.shape


def placeholders(
    config: PipelineConfig, preprocessing_fn: Callable[..., dict[str, Any]]
) -> dict[str, Placeholder]:
    """Trace `preprocessing_fn` on the raw features of a config; return what it makes, by name.

    Raises:
        UserCodeError: If the user's function raises or returns something else.
    """
    with library_refusals("preprocessing.py: preprocessing_fn", "tensorflow_transform"):
        _, outputs = _traced(config, preprocessing_fn)
    return {name: _placeholder(value) for name, value in sorted(outputs.items())}


def graph_of(config: PipelineConfig, preprocessing_fn: Callable[..., dict[str, Any]]) -> tf.Graph:
    """Return the graph of `preprocessing_fn` on the raw features of a config."""
    return _traced(config, preprocessing_fn)[0]


def made_up_rows(
    features: dict[str, Placeholder], ids: dict[str, int], rows: int
) -> dict[str, Array]:
    """Return rows of made-up values as a model takes them, the same every time.

    Args:
        ids: By feature, how many ids there are; of others there are two.

    Row `n` of a padded feature has `n + 1` values; the rest is padding.
    """
    rng = np.random.default_rng(0)
    return {
        name: _made_up(rng, feature, max(1, ids.get(name, 2) - 1), rows)
        for name, feature in features.items()
    }


# --- inside -------------------------------------------------------------------------------------


def _traced(
    config: PipelineConfig, preprocessing_fn: Callable[..., dict[str, Any]]
) -> tuple[tf.Graph, dict[str, Any]]:
    from tensorflow_transform import impl_helper

    specs = {name: _raw_spec(feature) for name, feature in config.features.items()}
    graph, _, outputs = impl_helper.trace_preprocessing_function(
        preprocessing_fn, specs, use_tf_compat_v1=False
    )
    return graph, outputs


def _raw_spec(feature: FeatureConfig) -> tf.TypeSpec:
    dtype = tf.as_dtype(feature.dtype)
    if feature.is_variable_length:
        return tf.RaggedTensorSpec([None, None], dtype, row_splits_dtype=tf.int64)
    return tf.TensorSpec([None, *feature.shape], dtype)


def _placeholder(value: Any) -> Placeholder:
    dtype = value.dtype.name
    if isinstance(value, tf.Tensor):
        return Placeholder(tuple(value.shape[1:]), dtype, _least_id(value))
    if isinstance(value, tf.RaggedTensor):
        return Placeholder((None, *value.shape[2:]), dtype, _least_id(value))
    return Placeholder((None,), dtype, _least_id(value))


def _least_id(value: Any) -> int | None:
    from tensorflow_transform import schema_inference

    if not value.dtype.is_integer:
        return None
    values = value
    if not isinstance(value, tf.Tensor):
        values = value.values if isinstance(value, tf.SparseTensor) else value.flat_values
    while values.op.type == "Identity":  # which a traced function puts before what it returns
        values = values.op.inputs[0]
    try:
        least, _ = schema_inference.get_tensor_schema_override(values)
    except ValueError:
        return None
    parts = least.op.inputs if least.op.type == "Minimum" else [least]
    known = [tf.get_static_value(part) for part in parts]
    return None if None in known else int(min(known))


def _made_up(rng: np.random.Generator, feature: Placeholder, most: int, rows: int) -> Array:
    shape = (rows, *(rows if size is None else size for size in feature.shape))
    values: Array
    if feature.dtype == "string":
        values = np.full(shape, b"a", object)
    elif feature.dtype.startswith("int"):
        values = rng.integers(1, most + 1, shape)
    else:
        values = rng.normal(size=shape).astype(np.float32)
    if feature.is_padded:
        for row in range(rows):
            values[row, row + 1 :] = b"" if feature.dtype == "string" else 0
    return values
