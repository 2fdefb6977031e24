"""Keras models asked for rows alone and together: what is refused, and what must pass."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from components.data.examples import model_inputs
from components.quality.model_rows import (
    exact_float32,
    model_subject,
    padded,
    scores_function,
    telling_rows_of,
)
from components.quality.row_dependence import Cause, Dependence
from components.quality.row_independence import find_dependence
from contract.schema.pipeline import PipelineConfig

ROWS = 120
IDS = 20
RANDOM = np.random.default_rng(0)
LENGTHS = RANDOM.integers(0, 9, ROWS)
CONFIG = PipelineConfig.model_validate_json(
    '{"name": "tiny", "features": {"x": {"dtype": "float32"}}, '
    '"heads": {"y": {"task": "regression"}}, '
    '"ingest": {"source": {"kind": "csv", "files": ["rows.csv"]}}}'
)

Features = dict[str, Any]
Build = Callable[[Features], Any]


def ragged(lengths: np.ndarray) -> tf.RaggedTensor:
    ids = RANDOM.integers(1, IDS, lengths.sum())
    return tf.RaggedTensor.from_row_lengths(ids.astype(np.int64), lengths)


COLUMNS = {
    "x": tf.constant(RANDOM.normal(size=(ROWS, 3)).astype(np.float32)),
    "tags": ragged(LENGTHS[::-1].copy()),
    "words": ragged(LENGTHS),
}


class Always(layers.Layer):
    """Calls another layer as in training, whatever it is told."""

    def __init__(self, layer: layers.Layer) -> None:
        super().__init__()
        self._layer = layer

    def call(self, x: Any) -> Any:
        return self._layer(x, training=True)


class Of(layers.Layer):
    """Applies a function."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self._function = function

    def call(self, x: Any) -> Any:
        return self._function(x)


def found(build: Build) -> Dependence | None:
    keras.utils.set_random_seed(1)
    features = {
        "x": keras.Input((3,), name="x"),
        "tags": keras.Input((None,), dtype="int64", name="tags"),
        "words": keras.Input((None,), dtype="int64", name="words"),
    }
    model = keras.Model(features, layers.Dense(1)(build(features)))
    lists = frozenset({"tags", "words"})
    subject = model_subject(model, scores_function(model, CONFIG, COLUMNS), lists)
    return find_dependence(subject, telling_rows_of(COLUMNS))


def embedded(features: Features, name: str = "words", mask_zero: bool = False) -> Any:
    return layers.Embedding(IDS, 8, mask_zero=mask_zero)(features[name])


def is_word(features: Features) -> Any:
    return ops.cast(ops.not_equal(features["words"], 0), "float32")[..., None]


def attended(features: Features, mask_zero: bool) -> Any:
    words = embedded(features, mask_zero=mask_zero)
    return layers.GlobalAveragePooling1D()(layers.MultiHeadAttention(2, 4)(words, words))


PADDED: dict[str, Build] = {
    "mean": lambda f: layers.GlobalAveragePooling1D()(embedded(f)),
    "max": lambda f: layers.GlobalMaxPooling1D()(embedded(f)),
    "gru": lambda f: layers.GRU(4)(embedded(f)),
    "attention": lambda f: attended(f, mask_zero=False),
    "convolution": lambda f: ops.sum(
        layers.Conv1D(4, 3, padding="same", bias_initializer="ones")(embedded(f) * is_word(f)), 1
    ),
    "last": lambda f: embedded(f)[:, -1],
    "width": lambda f: f["x"] * Of(lambda w: ops.cast(ops.shape(w)[1], "float32"))(f["words"]),
    # == of a Keras tensor asks whether it is the same object: this masks nothing
    "mask by ==": lambda f: ops.max(embedded(f) - 1e9 * ops.cast(f["words"] == 0, "float32"), 1),
}

OVER_THE_BATCH: dict[str, tuple[Build, Cause]] = {
    "batch normalisation": (
        lambda f: Always(layers.BatchNormalization())(f["x"]),
        Cause.NEIGHBOURS,
    ),
    "softmax": (lambda f: Of(lambda x: ops.softmax(x * 1.0, axis=0))(f["x"]), Cause.NEIGHBOURS),
    "centred": (lambda f: Of(lambda x: x - ops.mean(x, axis=0))(f["x"]), Cause.NEIGHBOURS),
    "norm": (lambda f: Of(lambda x: x / ops.norm(x))(f["x"]), Cause.NEIGHBOURS),
    "attention": (
        lambda f: Of(lambda x: ops.softmax(x @ ops.transpose(x)) @ x)(f["x"]),
        Cause.NEIGHBOURS,
    ),
    "rank": (
        lambda f: Of(lambda x: ops.cast(ops.argsort(ops.argsort(x, 0), 0), "float32"))(f["x"]),
        Cause.NEIGHBOURS,
    ),
    "sort": (lambda f: Of(lambda x: ops.sort(x, axis=0))(f["x"]), Cause.ORDER),
    "running sum": (lambda f: Of(lambda x: ops.cumsum(x, axis=0))(f["x"]), Cause.ORDER),
    "shift": (lambda f: Of(lambda x: x + ops.roll(x, 1, axis=0))(f["x"]), Cause.ORDER),
}

RANDOM_ONES: dict[str, Build] = {
    "dropout": lambda f: Always(layers.Dropout(0.5))(f["x"]),
    "noise": lambda f: Always(layers.GaussianNoise(0.1))(f["x"]),
    "drawn": lambda f: Of(lambda x: x + tf.random.normal(tf.shape(x)))(f["x"]),
}

OF_THE_ROW: dict[str, Build] = {
    "masked mean": lambda f: layers.GlobalAveragePooling1D()(embedded(f, mask_zero=True)),
    "masked gru": lambda f: layers.GRU(4)(embedded(f, mask_zero=True)),
    "masked lstm, both ways": lambda f: layers.Bidirectional(layers.LSTM(4))(
        embedded(f, mask_zero=True)
    ),
    "masked attention": lambda f: attended(f, mask_zero=True),
    "sum by hand": lambda f: ops.sum(embedded(f) * is_word(f), axis=1),
    "mean by length": lambda f: (
        ops.sum(embedded(f) * is_word(f), axis=1) / ops.maximum(ops.sum(is_word(f), axis=1), 1.0)
    ),
    "max by hand": lambda f: ops.max(embedded(f) - 1e3 * (1.0 - is_word(f)), axis=1),
    "length": lambda f: ops.sum(is_word(f), axis=1),
    "first": lambda f: embedded(f)[:, 0],
    "two lists": lambda f: layers.Concatenate()(
        [
            layers.GlobalAveragePooling1D()(embedded(f, name, mask_zero=True))
            for name in ("words", "tags")
        ]
    ),
    "batch normalisation": lambda f: layers.BatchNormalization()(f["x"]),
    "dropout": lambda f: layers.Dropout(0.5)(f["x"]),
    "layer normalisation": lambda f: layers.LayerNormalization()(f["x"]),
    "softmax of a row": lambda f: layers.Softmax()(f["x"]),
    "large numbers": lambda f: layers.Dense(64, "relu")(f["x"] * 1e5) * 1e-5,
}


@pytest.mark.parametrize("build", PADDED.values(), ids=PADDED)
def test_padding_that_is_not_masked_is_found_and_only_its_feature_named(build: Build) -> None:
    masked = layers.GlobalAveragePooling1D
    dependence = found(
        lambda f: (
            layers.Concatenate()(
                [masked()(embedded(f, "tags", mask_zero=True)), layers.Flatten()(build(f))]
            )
            if build is not PADDED["last"]
            else build(f)
        )
    )
    assert dependence is not None
    assert (dependence.cause, dependence.feature) == (Cause.PADDING, "words")


@pytest.mark.parametrize(("build", "cause"), OVER_THE_BATCH.values(), ids=OVER_THE_BATCH)
def test_what_is_computed_over_the_batch_is_found(build: Build, cause: Cause) -> None:
    dependence = found(build)
    assert dependence is not None
    assert dependence.cause is cause


@pytest.mark.parametrize("build", RANDOM_ONES.values(), ids=RANDOM_ONES)
def test_randomness_that_is_left_on_is_found(build: Build) -> None:
    dependence = found(build)
    assert dependence is not None
    assert dependence.cause is Cause.CALLS


@pytest.mark.parametrize("build", OF_THE_ROW.values(), ids=OF_THE_ROW)
def test_a_model_that_answers_each_row_by_itself_passes(build: Build) -> None:
    assert found(build) is None


def test_rows_are_padded_as_training_pads_them() -> None:
    lists = {
        "ids": tf.ragged.constant([[1, 2, 3], [], [4]], dtype=tf.int64),
        "words": tf.ragged.constant([["a"], ["b", "c"], []]),
        "empty": tf.ragged.constant([[], [], []], dtype=tf.float32, ragged_rank=1),
        "points": tf.ragged.constant([[[1.0, 2.0]], [], [[3.0, 4.0]] * 2], ragged_rank=1),
        "nested": tf.ragged.constant([[[1], [2, 3]], [], [[]]], dtype=tf.int64),
    }
    rows = telling_rows_of(lists)
    for name, expected in model_inputs(lists).items():
        if name == "points":
            continue  # an empty row of pairs has lost that they are pairs
        values = padded([row[name] for row in rows])
        if name == "nested":
            values = values[:, :2, :2]
        np.testing.assert_array_equal(values, expected.numpy(), err_msg=name)
        assert tf.constant(values).dtype == expected.dtype


def test_weights_are_as_they_were_after_a_difference_was_looked_into() -> None:
    keras.utils.set_random_seed(1)
    features = {"x": keras.Input((3,), name="x")}
    model = keras.Model(features, layers.Dense(1)(Of(lambda x: ops.cumsum(x, 0))(features["x"])))
    before = model.get_weights()
    columns = {"x": COLUMNS["x"]}
    subject = model_subject(model, scores_function(model, CONFIG, columns), frozenset())
    rows = telling_rows_of(columns)
    together = subject.ask(rows)["y"]
    with subject.rounded_otherwise():
        apart = np.abs(subject.ask(rows)["y"] - together) / np.max(np.abs(together))
    assert 0 < np.max(apart) < 1e-5
    assert find_dependence(subject, rows) is not None
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_tensor_float_32_is_off_only_while_rows_are_asked_for() -> None:
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    before = enabled()
    with exact_float32():
        assert not enabled()
    assert enabled() == before
