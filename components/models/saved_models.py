"""SavedModels that answer raw features: made from a trained model, loaded, called.

The preprocessing graph is inside both signatures, so that training and serving cannot skew:

* `serving_default` takes one tensor per raw feature, by name: a scalar `[batch]`, a fixed shape
  `[batch, *shape]`, a variable-length one dense `[batch, longest]`, its shorter rows filled up with
  `InputSpec.padding` ("" / the least int64 / NaN), which the signature drops wherever it stands.
  A signature has no optional inputs: who calls it fills in a missing scalar's default. A feature
  whose name is not an identifier has its legal name there (`contract.feature_names`).
* `serving_examples` takes `examples`, string `[batch]` of serialized tf.Examples as raw shards hold
  them; there a missing scalar is absent, and its default is filled in by the graph.

Both answer, for the only head, `scores` float32 `[batch, classes]` (a distribution; binary:
`[1 - p, p]`) or, for regression, `value` float32 `[batch]`; for several heads `<head>_scores` and
`<head>_value`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.data.examples import model_inputs
from components.data.raw_examples import Array, RawColumns
from components.models.user_model import head_outputs, head_scores
from contract.errors import DataError
from contract.feature_names import legal_names
from contract.model_io import DEFAULT_SIGNATURE, EXAMPLES_SIGNATURE, NUMPY_DTYPES, output_name
from contract.records.package import InputSpec
from contract.schema.data import FeatureConfig
from contract.schema.pipeline import PipelineConfig

# Beside its signatures a SavedModel of ours has this function, `examples -> raw features`: an
# optimiser can then make `serving_examples` of it and `serving_default`, and store weights once.
EXAMPLES_PARSER = "parse_examples"

Tensors = dict[str, Any]


@dataclass(frozen=True)
class LoadedModel:
    """A SavedModel in memory. `module` is TensorFlow's object; its signatures are callable."""

    path: Path
    module: Any

    def signature(self, name: str) -> Callable[..., Tensors]:
        """Return a signature by name, or raise DataError with those that there are."""
        if name not in self.module.signatures:
            raise DataError(
                f"{self.path}: no signature '{name}' (found: {', '.join(self.module.signatures)})"
            )
        return self.module.signatures[name]  # type: ignore[no-any-return]

    def input_specs(self, name: str = DEFAULT_SIGNATURE) -> dict[str, tf.TensorSpec]:
        """Return a signature's inputs by name."""
        return dict(self.signature(name).structured_input_signature[1])  # type: ignore[attr-defined]


def load(path: Path) -> LoadedModel:
    """Load a SavedModel.

    Raises:
        DataError: If there is none, it cannot be read, or it has no signature.
    """
    if not (path / "saved_model.pb").is_file():
        found = "no such directory" if not path.is_dir() else "saved_model.pb is missing"
        raise DataError(f"{path}: not a SavedModel: {found}")
    try:
        module = tf.saved_model.load(str(path))
    except Exception as error:  # TensorFlow raises whatever its readers met
        first_line = (str(error).splitlines() or [""])[0]
        raise DataError(f"{path}: a SavedModel that cannot be loaded: {first_line}") from error
    if not getattr(module, "signatures", None):
        raise DataError(f"{path}: a SavedModel without signatures; export it with at least one")
    return LoadedModel(path, module)


# --- calling ------------------------------------------------------------------------------------


def predict_columns(
    model: LoadedModel, columns: RawColumns, config: PipelineConfig, batch_size: int = 512
) -> dict[str, Array]:
    """Answer raw rows through `serving_default`.

    Returns:
        By head, float32 `[rows, classes]`, or `[rows]` for regression.
    """
    inputs = wire_inputs(columns.features, config)
    batches = (
        {name: value[start : start + batch_size] for name, value in inputs.items()}
        for start in range(0, len(columns), batch_size)
    )
    return _predict(model.signature(DEFAULT_SIGNATURE), batches, config)


def predict_examples(
    model: LoadedModel, examples: Sequence[bytes], config: PipelineConfig, batch_size: int = 512
) -> dict[str, Array]:
    """Answer serialized raw tf.Examples through `serving_examples`, as `predict_columns` does."""
    batches = (
        {"examples": np.array(examples[start : start + batch_size], object)}
        for start in range(0, len(examples), batch_size)
    )
    return _predict(model.signature(EXAMPLES_SIGNATURE), batches, config)


def wire_inputs(features: Mapping[str, Array], config: PipelineConfig) -> dict[str, Array]:
    """Return columns as `serving_default` takes them: by legal name, those of any length padded."""
    specs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    legal = legal_names(specs)
    return {
        legal[name]: _padded(features[name], spec) if spec.is_variable_length else features[name]
        for name, spec in specs.items()
    }


def list_fillers(config: PipelineConfig) -> dict[str, Any]:
    """Return what `wire_inputs` fills up shorter lists with, by legal name."""
    specs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    legal = legal_names(specs)
    return {legal[n]: spec.filler for n, spec in specs.items() if spec.is_variable_length}


def _padded(rows: Array, spec: InputSpec) -> Array:
    """Return `[rows, longest]` of rows that are one-dimensional arrays, filled up at the end."""
    longest = max(map(len, rows), default=0)
    padded = np.full((len(rows), longest), spec.filler, NUMPY_DTYPES[spec.dtype])
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def _predict(
    signature: Callable[..., Tensors], batches: Iterator[dict[str, Array]], config: PipelineConfig
) -> dict[str, Array]:
    answers = [
        signature(**{name: tf.constant(value) for name, value in batch.items()})
        for batch in batches
    ]
    names = {head: output_name(head, config.heads) for head in config.heads}
    return {
        head: np.concatenate([answer[name].numpy() for answer in answers])
        if answers
        else np.empty(0, np.float32)
        for head, name in names.items()
    }


# --- making -------------------------------------------------------------------------------------


def export(config: PipelineConfig, transform_graph: Path, model: keras.Model, target: Path) -> None:
    """Write a SavedModel with both signatures: preprocessing, then the model, then `scores`.

    Args:
        config: Names features and heads.
        transform_graph: What tf.Transform wrote (`TransformRecord.transform_graph`).
        model: Takes the transformed features, answers logits (regression: the value).
        target: A directory to make.
    """
    module = tf.Module()
    module.transform = _transform_layer(transform_graph)
    module.state = _state_of(model)
    features, legal = config.features, legal_names(config.features)

    def parse_examples(examples: tf.Tensor) -> Tensors:
        parsed = tf.io.parse_example(examples, {n: _parsing(f) for n, f in features.items()})
        return {legal[name]: _to_wire(value, features[name]) for name, value in parsed.items()}

    def answer(**inputs: tf.Tensor) -> Tensors:
        raw = {name: _from_wire(inputs[legal[name]], f) for name, f in features.items()}
        inputs = model_inputs(module.transform(raw))
        scores = head_scores(config, head_outputs(model, config, inputs, training=False))
        return {output_name(head, config.heads): score for head, score in scores.items()}

    def answer_examples(examples: tf.Tensor) -> Tensors:
        return answer(**parse_examples(examples))

    examples_spec = tf.TensorSpec([None], tf.string, "examples")
    specs = {legal[name]: _wire_spec(legal[name], f) for name, f in features.items()}
    parser = tf.function(parse_examples, input_signature=[examples_spec], autograph=False)
    setattr(module, EXAMPLES_PARSER, parser)
    signatures = {
        DEFAULT_SIGNATURE: tf.function(answer, autograph=False).get_concrete_function(**specs),
        EXAMPLES_SIGNATURE: tf.function(answer_examples, autograph=False).get_concrete_function(
            examples_spec
        ),
    }
    tf.saved_model.save(module, str(target), signatures=signatures)


def _state_of(model: keras.Model) -> list[Any]:
    """Return the variables and tables of a Keras model.

    Not the model itself: Keras 3.15 would trace a separate function for each layer, which takes
    seconds and fails for layers with a random seed (augmentation).
    """
    resource = tf.saved_model.experimental.TrackableResource
    owned = [thing for layer in model._flatten_layers() for thing in vars(layer).values()]
    variables = [variable.value for variable in model.variables]
    return variables + [thing for thing in owned if isinstance(thing, resource)]


def _transform_layer(transform_graph: Path) -> Any:
    # Imported here: it takes seconds, and callers of a SavedModel do not need it.
    import tensorflow_transform as tft

    return tft.TFTransformOutput(str(transform_graph)).transform_features_layer()


def _parsing(feature: FeatureConfig) -> Any:
    """Return how `tf.io.parse_example` reads a raw feature."""
    dtype = tf.as_dtype(feature.dtype)
    if feature.is_variable_length:
        return tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)
    return tf.io.FixedLenFeature(feature.shape, dtype, feature.default)


def _wire_spec(name: str, feature: FeatureConfig) -> tf.TensorSpec:
    shape = (None, None) if feature.is_variable_length else (None, *feature.shape)
    return tf.TensorSpec(shape, tf.as_dtype(feature.dtype), name)


def _to_wire(value: Any, feature: FeatureConfig) -> tf.Tensor:
    if not feature.is_variable_length:
        return value
    return value.to_tensor(tf.constant(InputSpec.of(feature).padding, value.dtype))


def _from_wire(value: tf.Tensor, feature: FeatureConfig) -> Any:
    """Return what `preprocessing_fn` gets: a variable-length feature ragged, without padding."""
    if not feature.is_variable_length:
        return value
    if feature.dtype == "float32":
        is_value = tf.logical_not(tf.math.is_nan(value))
    else:
        is_value = tf.not_equal(value, InputSpec.of(feature).padding)
    return tf.ragged.boolean_mask(value, is_value)
