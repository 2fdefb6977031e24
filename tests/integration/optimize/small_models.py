"""SavedModels made here, by plain TensorFlow and Keras: no pipeline in sight."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.optimize.chain import Chain, Data, State
from components.optimize.graph.editing import GraphEdit
from components.optimize.graph.graphs import GraphModel
from components.optimize.judging.batches import Samples
from components.optimize.judging.judgement import Evaluation, Truth
from components.optimize.passes import fold_constants, remove_nodes
from contract.records.optimization import LedgerRow
from contract.schema.optimize import OptimizeConfig
from contract.schema.passes import DEFAULT_PASSES, LOSSY_PASSES

SIGNATURE = "serving_default"
CLASSES = 10  # of `labelled` models
FLOAT_ONLY = tuple(name for name in DEFAULT_PASSES if name not in LOSSY_PASSES)
EVERYTHING = (
    *FLOAT_ONLY,
    "fuse",
    {"round_weights": {"num_steps": 256, "minimum_size": 2}},
    {"quantize_weights": {"minimum_size": 1}},
    "quantize_nodes",
    "freeze_requantization_ranges",
)
WORDS: Samples = {
    SIGNATURE: {
        "word": np.array([b"red", b"blue", b"pink", b"green"], object),
        "boost": np.array([1.0, 2.0, -1.0, 0.5], np.float32),
    }
}


def settings(*passes: Any, **others: Any) -> OptimizeConfig:
    """Return a config with these passes, or the default ones."""
    given: dict[str, Any] = {"passes": passes} if passes else {}
    return OptimizeConfig(**given, **others)


def data_of(samples: Samples, *truths: Truth) -> Data:
    """Return rows that are judged on, too."""
    signature = next(iter(samples))
    return Data(samples, Evaluation(signature, samples[signature], truths))


@dataclass(frozen=True)
class Ran:
    """A chain that ran through, and what it chose."""

    rows: list[LedgerRow]
    final: State
    chain: Chain

    def row(self, name: str) -> LedgerRow:
        return next(row for row in self.rows if row.name == name)


def run_chain(source: Path, data: Data, config: OptimizeConfig, workplace: Path) -> Ran:
    """Run all passes of a config, without a second process for cold starts."""
    workplace.mkdir(exist_ok=True)
    chain = Chain(source, data, config, workplace)
    for one in config.passes:
        chain.apply(one)
    final = chain.choose()
    return Ran([*chain.rows, chain.whole(final)], final, chain)


def save_function(
    path: Path, function: Callable[..., dict[str, tf.Tensor]], *specs: tf.TensorSpec
) -> Path:
    """Save a function of named tensors as the signature `serving_default`."""
    traced = tf.function(function, autograph=False).get_concrete_function(*specs)
    tf.saved_model.save(tf.Module(), str(path), {SIGNATURE: traced})
    return path


def lifted(path: Path, function: Callable[..., Any], *shape: int | None) -> GraphModel:
    """Return a model of one input `x` (float32, `shape`) and one output `y`."""
    spec = tf.TensorSpec(shape or [None], tf.float32, "x")
    return GraphModel.lift(save_function(path, lambda x: {"y": function(x)}, spec))


def plain(path: Path, function: Callable[..., Any], *shape: int | None) -> GraphModel:
    """Return a frozen model without pass-through nodes."""
    frozen = fold_constants.apply(lifted(path, function, *shape)).model
    return remove_nodes.apply(frozen).model


def constants(model: GraphModel) -> list[np.ndarray]:
    """Return the float constants of more than one number."""
    edit = GraphEdit(model.signatures[SIGNATURE])
    values = [edit.float_constant(node.name) for node in edit.of_kind("Const")]
    return [value for value in values if value is not None and value.size > 1]


def answer_of(model: GraphModel, value: Any) -> Any:
    """Return the output `y` of a model's graph."""
    call = model.signatures[SIGNATURE].concrete()
    return call(x=tf.constant(value, tf.float32))["y"].numpy()


def save_keras(model: keras.Model, path: Path) -> None:
    """Save a Keras model of one input as plain TensorFlow would."""
    module = tf.Module()
    module.model = model
    function = tf.function(lambda x: {"y": model(x, training=False)}, autograph=False)
    spec = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32, "x")
    tf.saved_model.save(module, str(path), {SIGNATURE: function.get_concrete_function(x=spec)})


def random_network(seed: int) -> keras.Model:
    """Return a random chain of conv, batch norm, relu, add and dense with lively statistics."""
    random = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x: Any = inputs
    for _ in range(random.integers(1, 4)):
        kind = random.choice([layers.Conv2D, layers.DepthwiseConv2D])
        size = {"filters": 4} if kind is layers.Conv2D else {}
        y = kind(kernel_size=3, padding="same", use_bias=bool(random.integers(2)), **size)(x)
        y = layers.Dropout(0.3)(layers.BatchNormalization()(y))
        y = layers.ReLU()(y) if random.integers(2) else y
        x = layers.Add()([x, y]) if x.shape == y.shape else y
    x = layers.Dense(5, activation="softmax")(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    for variable in model.variables:
        is_variance = variable.path.endswith("moving_variance")
        value = (
            random.uniform(0.5, 2.0, variable.shape)
            if is_variance
            else random.normal(0.0, 0.4, variable.shape)
        )
        if variable.dtype == "float32":
            variable.assign(value)
    return model


class WordModel(tf.Module):
    """Words through a vocabulary, an embedding and a layer; checks, a loop and a branch."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        kinds = tf.lookup.TextFileIndex
        initializer = tf.lookup.TextFileInitializer(
            str(vocabulary), tf.string, kinds.WHOLE_LINE, tf.int64, kinds.LINE_NUMBER
        )
        self.table = tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=1)
        self.embedding = tf.Variable(tf.reshape(tf.range(12.0), [4, 3]))
        self.kernel = tf.Variable(tf.eye(3))  # changes nothing
        self.calls = tf.Variable(0.5)

    @tf.function
    def __call__(self, word: tf.Tensor, boost: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.debugging.Assert(tf.reduce_all(boost < 100.0), ["too large"])
        tf.debugging.assert_all_finite(boost, "boost")
        rows = tf.gather(self.embedding, self.table.lookup(word)) @ self.kernel
        value = tf.nn.relu(tf.nn.bias_add(rows, tf.zeros(3))) * boost[:, None]
        for step in tf.range(3):
            value = value + tf.cast(step, tf.float32) * self.calls
        value = tf.cond(tf.reduce_sum(boost) > 0.0, lambda: value * 2.0, lambda: value)
        return {"scores": tf.identity(value), "word": tf.strings.upper(word)}


def images(rows: int = 9) -> Samples:
    return {SIGNATURE: {"x": np.random.default_rng(0).normal(size=(rows, 8, 8, 3)).astype("f4")}}


def labelled(path: Path, function: Any, labels: np.ndarray, x: np.ndarray) -> tuple[Path, Any]:
    """Save a function of `x` whose output `scores` has known classes; return rows and truth."""
    save_function(path, function, tf.TensorSpec([None, x.shape[1]], tf.float32, "x"))
    weights = np.ones(len(labels), np.float32)
    truth = Truth("scores", "multiclass_classification", "accuracy", labels, weights)
    return path, data_of({SIGNATURE: {"x": x.astype(np.float32)}}, truth)


def outlier_model(path: Path) -> tuple[Path, Any]:
    """Save a classifier that int8 spoils: one input is 1,000 times as large as the others.

    `x` holds a class in ten small numbers, and a large one that decides nothing; int8 has one step
    for it and for the small ones, which all become 0. The second layer is harmless.
    """
    rng = np.random.default_rng(5)
    labels = rng.integers(0, CLASSES, 400)
    x = np.eye(CLASSES + 1)[labels] * 3.0 + rng.normal(0, 0.5, (400, CLASSES + 1))
    x[:, -1] = 3000.0
    first = tf.constant(np.eye(CLASSES + 1)[:, :CLASSES] / 10, tf.float32)
    second = tf.constant(np.eye(CLASSES), tf.float32)

    def function(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.nn.softmax(tf.nn.tanh(x @ first) @ second)}

    return labelled(path, function, labels, x)
