"""The user's Keras model: built, checked, fed and read the same way in training and in serving."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from components.data.examples import feature_spec, id_ranges, model_inputs
from components.models.model_graph import lookups, squashed_by
from components.models.model_hooks import MODEL_FILE, ModelHooks, load_hooks
from components.models.user_code import user_code
from contract.errors import UserCodeError, did_you_mean
from contract.feature_names import legal_names
from contract.schema.data import HeadConfig
from contract.schema.pipeline import PipelineConfig

_KEYS_AND_NAMES = "When providing `inputs` as a dict, all keys in the dict must match"
_WHERE = f"{MODEL_FILE}: build_model"

Shapes = Mapping[str, tuple[tuple[int | None, ...], str]]  # of one example, and the type

__all__ = ["build_model", "head_outputs", "head_scores", "model_inputs"]


def build_model(config: PipelineConfig, frozen_folder: Path, transform_graph: Path) -> keras.Model:
    """Build the user's model, with fresh weights, and check that it is what was promised.

    Call it inside a strategy's scope to create the weights there. It applies `train.precision`,
    so that training, evaluation and serving compute alike.

    Args:
        config: The frozen config.
        frozen_folder: Where the frozen `model.py` is.
        transform_graph: Folder of the transform graph, which knows the transformed features.

    Returns:
        A model from `{feature: tensor}` to one tensor or `{head: tensor}`; read it by
        `head_outputs`.

    Raises:
        UserCodeError: If `build_model` raises, does not return a `keras.Model` of these inputs, or
            its outputs do not fit the heads.
    """
    hooks = load_hooks(frozen_folder)
    model = build_on(config, hooks, _shapes(feature_spec(transform_graph)))
    _check_ids(model, id_ranges(transform_graph))
    return model


def build_on(config: PipelineConfig, hooks: ModelHooks, features: Shapes) -> keras.Model:
    """Build the user's model on features of these shapes and types, and check it.

    A model that has no inputs yet (subclassed, or a Sequential without an Input) is called on them,
    as Keras does with the first batch.

    Raises:
        UserCodeError: As `build_model`.
    """
    inputs = _inputs(features)
    with _precision(config.train.precision), user_code(_WHERE):
        model = hooks.build_model(dict(inputs), dict(config.train.hyperparameters))
    if not isinstance(model, keras.Model):
        raise UserCodeError(f"{_WHERE}: returned {type(model).__name__}; expected a keras.Model")
    if not _has_inputs(model):
        model = _called(model, inputs)
    _check_inputs(model, inputs)
    _check_outputs(model, config.heads)
    return model


def head_outputs(
    model: keras.Model, config: PipelineConfig, inputs: Mapping[str, tf.Tensor], training: bool
) -> dict[str, tf.Tensor]:
    """Call the model; return by head its raw output, float32, `[batch, output_size]`."""
    outputs = model(dict(inputs), training=training)
    if not isinstance(outputs, Mapping):
        outputs = {next(iter(config.heads)): outputs}
    return {head: tf.cast(outputs[head], tf.float32) for head in config.heads}


def head_scores(config: PipelineConfig, outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Turn raw outputs into answers by head.

    Returns:
        For classification probabilities, float32 `[batch, classes]`: the softmax of the logits, and
        `[1 - p, p]` of the one logit of a binary head. For regression the value, float32 `[batch]`.
    """
    return {head: _scores(config.heads[head], output) for head, output in outputs.items()}


def _scores(head: HeadConfig, output: tf.Tensor) -> tf.Tensor:
    if head.task == "regression":
        return tf.squeeze(output, axis=-1)
    if head.task == "multiclass_classification":
        return tf.nn.softmax(output, axis=-1)
    # sigmoid(-x), not 1 - sigmoid(x): the small one of the two keeps its digits
    return tf.concat([tf.sigmoid(-output), tf.sigmoid(output)], axis=-1)


def _inputs(features: Shapes) -> dict[str, keras.KerasTensor]:
    """Return one `keras.Input` per feature; the variable-length ones are `[batch, None]`."""
    legal = legal_names(features)
    return {
        name: keras.Input(shape, dtype=dtype, name=legal[name])
        for name, (shape, dtype) in features.items()
    }


def _shapes(spec: Mapping[str, Any]) -> Shapes:
    return {
        name: (
            tuple(one.shape) if isinstance(one, tf.io.FixedLenFeature) else _open_shape(one),
            one.dtype.name,
        )
        for name, one in spec.items()
    }


def _has_inputs(model: keras.Model) -> bool:
    """Tell whether a model knows its inputs: a functional one, or a Sequential with an Input."""
    try:
        return bool(model.inputs)
    except (AttributeError, ValueError):
        return False


def _called(model: keras.Model, inputs: Mapping[str, keras.KerasTensor]) -> keras.Model:
    """Return a functional model that calls the user's on the features."""
    given: Any = dict(inputs)
    if isinstance(model, keras.Sequential):
        if len(inputs) > 1:
            raise UserCodeError(
                f"{_WHERE}: a Sequential takes one feature, and there are {len(inputs)} "
                f"({', '.join(inputs)}); expected keras.Model(inputs=features, outputs=...)"
            )
        (given,) = inputs.values()
    with user_code(f"{_WHERE}: {type(model).__name__} called on the features"):
        return keras.Model(inputs=dict(inputs), outputs=model(given))


def _open_shape(spec: Any) -> tuple[int | None, ...]:
    """Return the shape of one example of a sparse or ragged feature: None where rows differ."""
    inner = tuple(
        p.length if isinstance(p, tf.io.RaggedFeature.UniformRowLength) else None  # type: ignore[attr-defined]
        for p in getattr(spec, "partitions", ())
    )
    return (None, *inner)


def _check_inputs(model: keras.Model, inputs: Mapping[str, keras.KerasTensor]) -> None:
    expected = "expected keras.Model(inputs=features, ...) with the features as given"
    if not isinstance(model.input, Mapping):
        raise UserCodeError(f"{_WHERE}: the model takes {type(model.input).__name__}; {expected}")
    for name, tensor in model.input.items():
        if name not in inputs or tensor is not inputs[name]:
            raise UserCodeError(
                f"{_WHERE}: the model has an input '{name}' that is none of the transformed "
                f"features ({', '.join(inputs)}); {expected}"
            )


def _check_outputs(model: keras.Model, heads: Mapping[str, HeadConfig]) -> None:
    outputs = model.output
    if isinstance(outputs, keras.KerasTensor):
        if len(heads) > 1:
            raise UserCodeError(
                f"{_WHERE}: the model has one output, but the pipeline has the heads "
                f"{', '.join(heads)}; return outputs={{head: tensor}}"
            )
        outputs = {next(iter(heads)): outputs}
    if not isinstance(outputs, Mapping):
        raise UserCodeError(
            f"{_WHERE}: outputs are a {type(outputs).__name__}; expected one tensor or "
            "{head: tensor}"
        )
    for unknown in outputs.keys() - heads.keys():
        raise UserCodeError(
            f"{_WHERE}: output '{unknown}' is not a head (heads: {', '.join(heads)})"
            f"{did_you_mean(str(unknown), heads)}"
        )
    for missing in [head for head in heads if head not in outputs]:
        raise UserCodeError(f"{_WHERE}: no output for head '{missing}'")
    for name, output in outputs.items():
        _check_shape(name, heads[name], tuple(output.shape))
        _check_values(name, heads[name], output)


def _check_shape(name: str, head: HeadConfig, shape: tuple[int | None, ...]) -> None:
    if shape != (None, head.output_size):
        raise UserCodeError(
            f"{_WHERE}: head '{name}' ({head.task}) has shape {_in_words(shape)}; expected "
            f"[batch, {head.output_size}]"
        )


def _check_values(name: str, head: HeadConfig, output: keras.KerasTensor) -> None:
    """Refuse outputs that are not numbers, or probabilities already where logits are expected."""
    if not str(output.dtype).startswith(("float", "bfloat")):
        raise UserCodeError(
            f"{_WHERE}: head '{name}' has type {output.dtype}; expected floating-point numbers"
        )
    if head.task != "regression" and (found := squashed_by(output)):
        raise UserCodeError(
            f"{_WHERE}: head '{name}' ends in a {found[0]} (layer '{found[1]}'); expected logits: "
            f"Slipway itself applies the {found[0]}. Remove the activation"
        )


def _check_ids(model: keras.Model, ranges: Mapping[str, tuple[int, int]]) -> None:
    """Refuse embeddings without a row for an id that a feature can have."""
    for layer, feature in lookups(model):
        least, most = ranges.get(feature, (0, 0))
        if most >= layer.input_dim:
            raise UserCodeError(
                f"{_WHERE}: layer '{layer.name}' has {layer.input_dim} rows, but feature "
                f"'{feature}' has ids up to {most} (also for values never seen); expected "
                f"input_dim of at least {most + 1}"
            )
        if least < 0:
            raise UserCodeError(
                f"{_WHERE}: feature '{feature}' is {least} for a value never seen, and layer "
                f"'{layer.name}' has no such row; give its vocabulary num_oov_buckets=1"
            )


def _in_words(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('batch' if size is None else str(size) for size in shape)}]"


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        with warnings.catch_warnings():  # the inputs' own names are legal ones, the keys the user's
            warnings.filterwarnings("ignore", _KEYS_AND_NAMES)
            yield
    finally:
        keras.config.set_dtype_policy(before)
