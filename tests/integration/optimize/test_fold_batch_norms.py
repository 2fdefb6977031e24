"""Batch normalisation into the layers beside it, against hand arithmetic."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import SIGNATURE, answer_of, constants, plain, save_keras
from tensorflow.core.framework import graph_pb2

from components.optimize.graph.graphs import GraphModel
from components.optimize.passes import fold_batch_norms, fold_old_batch_norms
from components.optimize.passes.registry import FLOAT_PASSES

KERNEL = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)  # [in, out]
DEEP = np.array([[1.0], [3.0]], np.float32)  # [in, multiplier]
FACTOR, OFFSET, BIAS = (np.array(v, np.float32) for v in ([2.0, -3.0], [10.0, 20.0], [1.0, 5.0]))

# --- either side, with and without bias ---------------------------------------------------------


def transposed(x: tf.Tensor) -> tf.Tensor:
    """As Keras writes it: the size of the output is computed from that of the data."""
    size = tf.concat([tf.shape(x)[:-1], [2]], 0)
    return tf.nn.conv2d_transpose(x, KERNEL.T[None, None], size, 1, "VALID")


LAYERS = {
    "conv": lambda x: tf.nn.conv2d(x, KERNEL[None, None], 1, "SAME"),
    "depthwise": lambda x: tf.nn.depthwise_conv2d(x, DEEP[None, None], [1, 1, 1, 1], "VALID"),
    "transposed": transposed,
    "dense": lambda x: tf.reshape(tf.reshape(x, [-1, 2]) @ KERNEL, [-1, 1, 1, 2]),
}
BEHIND, BEFORE = [[2, 6], [6, -12]], [[2, -4], [-9, -12]]  # columns, rows times 2 and -3
# By side and layer: the weight, and the answers to [1, 1] without and with the bias. Without a
# norm the layers answer [4, 2], depthwise [1, 3]; the norm makes 2 x + 10 and -3 x + 20 of it.
# Before the layer it makes [12, 17] of the data.
EXPECTED: dict[tuple[str, str], tuple[Any, Any, Any]] = {
    ("behind", "conv"): (BEHIND, [18, 14], [20, -1]),
    ("behind", "depthwise"): ([[2], [-9]], [12, 11], [14, -4]),
    ("behind", "transposed"): (np.transpose(BEHIND), [18, 14], [20, -1]),
    ("behind", "dense"): (BEHIND, [18, 14], [20, -1]),
    ("before", "conv"): (BEFORE, [63, 44], [64, 49]),
    ("before", "depthwise"): ([[2], [-9]], [12, 51], [13, 56]),
    ("before", "transposed"): (np.transpose(BEFORE), [63, 44], [64, 49]),
    ("before", "dense"): (BEFORE, [63, 44], [64, 49]),
}


@pytest.mark.parametrize("has_bias", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("side", ["behind", "before"])
def test_a_norm_goes_into_weight_and_bias(
    side: str, kind: str, has_bias: bool, tmp_path: Path
) -> None:
    def function(x: tf.Tensor) -> tf.Tensor:
        x = LAYERS[kind](x if side == "behind" else x * FACTOR + OFFSET)
        x = tf.nn.bias_add(x, BIAS) if has_bias else x
        return x * FACTOR + OFFSET if side == "behind" else x

    change = fold_batch_norms.apply(plain(tmp_path, function, None, 1, 1, 2))
    kinds = change.model.operations()
    assert kinds["Mul"] == 0
    assert kinds["AddV2"] + kinds["BiasAdd"] == 1
    weight, *answers = EXPECTED[side, kind]
    found = next(
        one for one in constants(change.model) if one.size == np.size(weight) and one.ndim > 1
    )
    np.testing.assert_array_equal(found.reshape(np.shape(weight)), weight)
    assert answer_of(change.model, [[[[1.0, 1.0]]]]).ravel().tolist() == answers[has_bias]
    # TensorFlow's own constant folding has moved some factors already
    assert change.is_change == ("; matched " in change.note)


def test_an_offset_before_an_unpadded_window_counts_once_a_weight(tmp_path: Path) -> None:
    kernel = np.ones((2, 2, 2, 1), np.float32)

    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.depthwise_conv2d(x * FACTOR + OFFSET, kernel, [1, 1, 1, 1], "VALID")

    folded = fold_batch_norms.apply(plain(tmp_path, function, None, 2, 2, 2)).model
    assert (folded.operations()["Mul"], folded.operations()["AddV2"]) == (0, 0)
    # four places of 1, each 2 + 10 and -3 + 20
    assert answer_of(folded, np.ones((1, 2, 2, 2))).ravel().tolist() == [48.0, 68.0]


def test_a_norm_before_flattened_data_repeats_in_the_rows(tmp_path: Path) -> None:
    weight = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)

    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x * FACTOR + OFFSET, [-1, 4]) @ weight

    folded = fold_batch_norms.apply(plain(tmp_path, function, None, 2, 2)).model
    assert folded.operations()["Mul"] == 0
    assert constants(folded)[-1].ravel().tolist() == [2.0, -6.0, 6.0, -12.0]
    # 12 and 17, twice: 12 * (1 + 3) + 17 * (2 + 4)
    assert answer_of(folded, [[[1.0, 1.0], [1.0, 1.0]]]).ravel().tolist() == [150.0]


def test_keras_norms_around_dense_layers_of_rank_3_and_transposed_ones(tmp_path: Path) -> None:
    layers = keras.layers
    x = inputs = keras.Input((2, 2, 3))
    for layer in (layers.Dense(4), layers.Conv2DTranspose(3, 1), layers.Reshape((4, 3)),
                  layers.BatchNormalization(), layers.Dense(5)):  # fmt: skip
        x = layers.BatchNormalization()(layer(x))
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    save_keras(model, tmp_path / "in")
    optimized = GraphModel.lift(tmp_path / "in")
    for name in ("freeze_graph", "fold_constants", "remove_nodes", "fold_batch_norms"):
        optimized = FLOAT_PASSES[name](optimized).model
    assert optimized.operations()["Mul"] == 0
    rows = rng.normal(size=(3, 2, 2, 3))
    np.testing.assert_allclose(answer_of(optimized, rows), model(rows), rtol=1e-4, atol=1e-5)


# --- what stays, and why ------------------------------------------------------------------------


def test_an_offset_is_not_folded_through_zero_padding(tmp_path: Path) -> None:
    """At the rim a padded convolution sees zeros and no offset."""
    kernel = np.ones((3, 3, 2, 2), np.float32)

    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(x * FACTOR + OFFSET, kernel, 1, "SAME")

    model = plain(tmp_path, function, None, 4, 4, 2)
    rows = np.random.default_rng(0).normal(size=(2, 4, 4, 2))
    folded = fold_batch_norms.apply(model).model
    np.testing.assert_allclose(answer_of(folded, rows), answer_of(model, rows), rtol=1e-5)
    assert folded.operations()["AddV2"] == 1
    reason = "left 1 (padding or a transposed kernel sees the offset in part)"
    assert reason in fold_batch_norms.apply(model).note


@pytest.mark.parametrize(("factor", "muls"), [([2.0, 3.0], 0), ([2.0, -3.0], 1)])
def test_a_factor_passes_a_max_pool_only_if_it_is_not_negative(
    factor: list[float], muls: int, tmp_path: Path
) -> None:
    kernel = np.ones((1, 1, 2, 2), np.float32)
    scale = np.array(factor, np.float32)

    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.max_pool2d(tf.nn.conv2d(x, kernel, 1, "VALID"), 2, 2, "VALID") * scale

    model = plain(tmp_path, function, None, 4, 4, 2)
    folded = fold_batch_norms.apply(model).model
    assert folded.operations()["Mul"] == muls
    rows = np.random.default_rng(0).normal(size=(2, 4, 4, 2))
    np.testing.assert_allclose(answer_of(folded, rows), answer_of(model, rows), rtol=1e-5)


def test_a_layer_that_others_read_too_keeps_its_weights(tmp_path: Path) -> None:
    def function(x: tf.Tensor) -> tf.Tensor:
        hidden = x @ KERNEL
        return tf.concat([hidden * FACTOR, tf.nn.relu(hidden)], 1)

    model = plain(tmp_path, function, None, 2)
    change = fold_batch_norms.apply(model)
    assert not change.is_change
    assert "left 1 (others read the layer's output too)" in change.note


def test_variables_and_loop_bodies_are_named_as_reasons(tmp_path: Path) -> None:
    def function(x: tf.Tensor) -> tf.Tensor:
        kernel = tf.constant(KERNEL)
        return tf.while_loop(lambda x: tf.reduce_sum(x) < 9.0, lambda x: x @ kernel * 2.0, [x])[0]

    change = fold_batch_norms.apply(plain(tmp_path / "a", function, None, 2))
    assert "left 1 (inside a loop or a branch)" in change.note
    weight = tf.Variable(KERNEL)
    module = tf.Module()
    module.weight = weight
    traced = tf.function(lambda x: {"y": x @ weight * FACTOR}).get_concrete_function(
        tf.TensorSpec([None, 2], tf.float32, "x")
    )
    tf.saved_model.save(module, str(tmp_path / "b"), {SIGNATURE: traced})
    note = fold_batch_norms.apply(GraphModel.lift(tmp_path / "b")).note
    assert "left 1 (the weight is a variable: freeze_graph comes first)" in note


# --- fused norms --------------------------------------------------------------------------------

STATISTICS = ([3.0, 1.0], [0.5, 0.0], [1.0, 2.0], [3.0, 8.0])  # scale, offset, mean, variance
ONES = np.ones((1, 1, 2, 2), np.float32)


def norm(x: tf.Tensor) -> tf.Tensor:
    """The variance plus epsilon 1 has the roots 2 and 3."""
    scale, offset, mean, variance = STATISTICS
    return tf.compat.v1.nn.fused_batch_norm(
        x, scale, offset, mean, variance, epsilon=1.0, is_training=False
    )[0]


def as_kind(model: GraphModel, kind: str) -> GraphModel:
    """Return the model with its fused norm written as TensorFlow 1 did."""

    def rewrite(signature: Any) -> Any:
        graph = graph_pb2.GraphDef()
        graph.CopyFrom(signature.graph_def)
        (node,) = (one for one in graph.node if one.op == "FusedBatchNormV3")
        node.op = kind
        if kind == "FusedBatchNorm":
            del node.attr["U"]
        if kind == "BatchNormWithGlobalNormalization":
            data, scale, offset, mean, variance = node.input
            node.ClearField("input")
            node.input.extend([data, mean, variance, offset, scale])
            node.ClearField("attr")
            node.attr["T"].type = tf.float32.as_datatype_enum
            node.attr["variance_epsilon"].f = 1.0
            node.attr["scale_after_normalization"].b = True
        graph.versions.producer = 8  # later ones refuse the oldest kind
        return signature.with_graph(graph)

    return model.rewritten(rewrite)


@pytest.mark.parametrize(
    "kind",
    ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "BatchNormWithGlobalNormalization"],
)
def test_a_fused_norm_behind_a_layer_is_folded(kind: str, tmp_path: Path) -> None:
    model = plain(tmp_path, lambda x: norm(tf.nn.conv2d(x, ONES, 1, "VALID")), 1, 1, 1, 2)
    old = as_kind(model, kind)
    assert old.operations()[kind] == 1
    folded = fold_old_batch_norms.apply(old).model
    assert folded.operations()[kind] == folded.operations()["Mul"] == 0
    # 1 + 1 = 2: (2 - 1) * 3/2 + 0.5 and (2 - 2) * 1/3
    np.testing.assert_allclose(answer_of(folded, [[[[1.0, 1.0]]]]), [[[[2.0, 0.0]]]], atol=1e-6)


def test_a_fused_norm_before_a_layer_is_folded_and_one_alone_is_not(tmp_path: Path) -> None:
    model = plain(tmp_path / "a", lambda x: tf.nn.conv2d(norm(x), ONES, 1, "VALID"), 1, 1, 1, 2)
    folded = fold_old_batch_norms.apply(model).model
    assert folded.operations()["FusedBatchNormV3"] == folded.operations()["Mul"] == 0
    # (5 - 1) * 3/2 + 0.5 = 6.5 and (5 - 2) * 1/3 = 1, in both sums
    np.testing.assert_allclose(answer_of(folded, [[[[5.0, 5.0]]]]), [[[[7.5, 7.5]]]], rtol=1e-6)
    change = fold_old_batch_norms.apply(
        plain(tmp_path / "b", lambda x: norm(tf.nn.relu(x)), 1, 1, 1, 2)
    )
    assert not change.is_change
    assert "left 1 (no linear layer beside it takes it up)" in change.note
