"""Each pass by itself, on graphs of a few nodes, against hand arithmetic."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import SIGNATURE, answer_of, lifted, plain, save_keras
from tensorflow.core.framework import graph_pb2

from components.optimize.graph.editing import GraphEdit
from components.optimize.graph.graphs import GraphModel
from components.optimize.judging.calibration import calibrate, observe
from components.optimize.passes import (
    fold_constants,
    freeze_graph,
    freeze_requantization_ranges,
    fuse,
    merge_duplicate_nodes,
    quantize_nodes,
    quantize_weights,
    remove_nodes,
    round_weights,
    sort_by_execution_order,
    strip_unused_nodes,
)
from components.optimize.passes.registry import FLOAT_PASSES
from contract.errors import DataError
from contract.schema.passes import LOSSY_PASSES, QuantizeWeights, RoundWeights, pass_names

INT8 = QuantizeWeights(name="quantize_weights", minimum_size=1)


KERNEL = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)  # [in, out]
BIAS = np.array([1.0, 5.0], np.float32)


def test_every_pass_of_the_config_has_a_function() -> None:
    assert set(pass_names()) == FLOAT_PASSES.keys() | LOSSY_PASSES


# --- taking away --------------------------------------------------------------------------------


def test_strip_unused_nodes_drops_what_no_output_needs(tmp_path: Path) -> None:
    model = lifted(tmp_path, lambda x: x + 1.0)
    signature = model.signatures[SIGNATURE]
    graph = graph_pb2.GraphDef()
    graph.CopyFrom(signature.graph_def)
    graph.node.add(name="lonely", op="NoOp")
    crowded = replace(model, signatures={SIGNATURE: signature.with_graph(graph)})
    change = strip_unused_nodes.apply(crowded)
    assert "lonely" not in {n.name for n in change.model.signatures[SIGNATURE].graph_def.node}
    assert change.is_change
    assert "NoOp" in change.note


def test_remove_nodes_takes_out_identities_and_checks(tmp_path: Path) -> None:
    def checked(x: tf.Tensor) -> tf.Tensor:
        tf.debugging.Assert(tf.reduce_all(x > -5.0), ["small"])
        return tf.identity(tf.stop_gradient(tf.debugging.check_numerics(tf.identity(x), "x"))) * 2.0

    kinds = remove_nodes.apply(lifted(tmp_path, checked)).model.operations()
    assert kinds["Mul"] == 1
    assert not {"CheckNumerics", "StopGradient", "Assert", "All", "Greater", "If"} & set(kinds)
    assert kinds["Identity"] <= 1  # the output itself may be one


def test_remove_nodes_takes_out_summaries_and_checkpoint_nodes(tmp_path: Path) -> None:
    def training(x: tf.Tensor) -> tf.Tensor:
        raw = tf.raw_ops
        writer = raw.SummaryWriter(shared_name="", container="")
        raw.WriteScalarSummary(writer=writer, step=tf.constant(1, tf.int64), tag="x", value=x[0])
        raw.SaveV2(prefix="nowhere", tensor_names=["x"], shape_and_slices=[""], tensors=[x])
        raw.MergeV2Checkpoints(checkpoint_prefixes=["nowhere"], destination_prefix="there")
        return x * 2.0

    model = lifted(tmp_path, training)
    gone = {"SummaryWriter", "WriteScalarSummary", "SaveV2", "MergeV2Checkpoints"}
    assert gone <= set(model.operations())
    cleaned = remove_nodes.apply(model).model
    assert not gone & set(cleaned.operations())
    assert answer_of(cleaned, [1.5]).tolist() == [3.0]


def test_fold_constants_computes_what_is_known(tmp_path: Path) -> None:
    model = lifted(tmp_path, lambda x: x + tf.sqrt(tf.constant(2.0) * tf.constant(8.0)))
    folded = fold_constants.apply(model).model
    assert folded.operations()["Sqrt"] == folded.operations()["Mul"] == 0
    assert answer_of(folded, [1.0]).tolist() == [5.0]


def test_freeze_graph_leaves_no_variable(network: Path) -> None:
    frozen = freeze_graph.apply(GraphModel.lift(network)).model
    assert frozen.operations()["ReadVariableOp"] == 0
    assert frozen.signatures[SIGNATURE].captures == {}


def test_a_pass_with_nothing_to_do_says_so_and_changes_nothing(tmp_path: Path) -> None:
    model = plain(tmp_path, lambda x: x + 1.0)
    for name, apply in FLOAT_PASSES.items():
        change = apply(model)
        assert not change.is_change, name
        assert change.note.startswith("nothing matched"), name
        assert change.model is model, name
    assert "no float constant" in round_weights.apply(model, ROUND_3).note
    assert "quantize_nodes" in freeze_requantization_ranges.apply(model, {}).note


# --- order and duplicates -----------------------------------------------------------------------


def test_duplicates_become_one_and_random_numbers_stay_two(tmp_path: Path) -> None:
    def function(x: tf.Tensor) -> tf.Tensor:
        noise = tf.random.uniform([1]) - tf.random.uniform([1])
        return tf.sqrt(x + 1.0) * tf.sqrt(x + 1.0) + 0.0 * noise

    kinds = merge_duplicate_nodes.apply(lifted(tmp_path, function)).model.operations()
    assert (kinds["Sqrt"], kinds["RandomUniform"]) == (1, 2)


def test_execution_order_lets_a_large_tensor_go_before_the_next_is_made(tmp_path: Path) -> None:
    def function(x: tf.Tensor) -> tf.Tensor:
        wide = [tf.exp(tf.tile(x, [100]) + float(n)) for n in range(3)]
        return tf.reduce_max(wide[0]) + tf.reduce_max(wide[1]) + tf.reduce_max(wide[2])

    model = lifted(tmp_path, function, 1)
    ordered = sort_by_execution_order.apply(model).model
    names = [node.op for node in ordered.signatures[SIGNATURE].graph_def.node]
    # 'Max' of one branch comes before 'Exp' of the next
    first_max = names.index("Max")
    assert names.index("Exp") < first_max
    assert "Exp" in names[first_max:]
    assert answer_of(ordered, [0.0]) == pytest.approx(1 + np.e + np.e**2, rel=1e-6)


def test_fuse_joins_matmul_bias_and_relu(tmp_path: Path) -> None:
    model = plain(tmp_path, lambda x: tf.nn.relu(tf.nn.bias_add(x @ KERNEL, BIAS)), None, 2)
    fused = fuse.apply(model).model
    assert fused.operations()["_FusedMatMul"] == 1
    assert fused.operations()["Relu"] == fused.operations()["BiasAdd"] == 0
    fused.save(tmp_path / "fused")
    assert answer_of(GraphModel.lift(tmp_path / "fused"), [[1.0, 1.0]]).tolist() == [[5.0, 7.0]]


def test_fuse_joins_conv_bias_and_relu(tmp_path: Path) -> None:
    def function(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, KERNEL[None, None], 1, "VALID"), -BIAS))

    fused = fuse.apply(plain(tmp_path, function, None, 1, 1, 2)).model
    assert fused.operations()["_FusedConv2D"] == 1
    assert fused.operations()["Relu"] == fused.operations()["BiasAdd"] == 0
    assert answer_of(fused, [[[[1.0, 1.0]]]]).ravel().tolist() == [3.0, 0.0]  # 4 - 1, 2 - 5


def test_fuse_says_that_a_keras_layer_norm_stays(tmp_path: Path) -> None:
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.LayerNormalization()(inputs))
    save_keras(model, tmp_path / "in")
    frozen = freeze_graph.apply(GraphModel.lift(tmp_path / "in")).model
    change = fuse.apply(remove_nodes.apply(fold_constants.apply(frozen).model).model)
    assert not change.is_change
    assert "left 1 (a layer norm has no faster fused kernel on CPUs)" in change.note


# --- fewer bits ---------------------------------------------------------------------------------

ROUND_3 = RoundWeights(name="round_weights", num_steps=3, minimum_size=2)


def test_round_weights_takes_the_nearest_of_evenly_spaced_values(tmp_path: Path) -> None:
    weight = np.array([0.0, 0.9, 1.1, 2.9, 4.0], np.float32)  # steps: 0, 2, 4
    rounded = round_weights.apply(plain(tmp_path, lambda x: x * weight, 5), ROUND_3).model
    assert answer_of(rounded, np.ones(5)).tolist() == [0.0, 0.0, 2.0, 2.0, 4.0]


WEIGHT = np.array([[127.0, 0.5], [-1.4, -1.27]], np.float32)  # by column, scales 1 and 0.01
STEPS = [[127, 50], [-1, -127]]


@pytest.mark.parametrize(
    ("layer", "weight", "steps"),
    [
        (lambda x, w: tf.reshape(x, [-1, 2]) @ w, WEIGHT, STEPS),
        (lambda x, w: tf.nn.conv2d(x, w, 1, "VALID"), WEIGHT[None, None], [[STEPS]]),
        # its two places by two channels, one scale a channel
        (
            lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"),
            WEIGHT[None, :, :, None],
            np.array(STEPS)[None, :, :, None].tolist(),
        ),
        # [height, width, out, in]
        (
            lambda x, w: tf.nn.conv2d_transpose(x, w, [1, 1, 1, 2], 1, "VALID"),
            WEIGHT.T[None, None],
            np.array(STEPS).T[None, None].tolist(),
        ),
    ],
    ids=["dense", "conv", "depthwise", "transposed"],
)
def test_int8_weights_have_one_scale_for_each_output_channel(
    layer: Callable[..., tf.Tensor], weight: np.ndarray, steps: Any, tmp_path: Path
) -> None:
    model = plain(tmp_path, lambda x: layer(x, weight), 1, 1, 1, 2)
    quantized = quantize_weights.apply(model, INT8).model
    edit = GraphEdit(quantized.signatures[SIGNATURE])
    stored = [edit.constant(n.name) for n in edit.of_kind("Const")]
    (found,) = [value for value in stored if value is not None and value.dtype == np.int8]
    assert found.tolist() == steps
    # what is in the graph is what it answers: 127, 0.5, -1 and -1.27 a weight
    rows = np.ones((1, 1, 1, 2))
    rounded = np.where(np.abs(weight) == np.float32(1.4), np.sign(weight), weight)
    expected = answer_of(plain(tmp_path / "b", lambda x: layer(x, rounded), 1, 1, 1, 2), rows)
    np.testing.assert_allclose(answer_of(quantized, rows), expected, rtol=1e-5)


def test_a_channel_of_zeros_stays_zero(tmp_path: Path) -> None:
    weight = np.array([[0.0, 1.0], [0.0, 2.0]], np.float32)
    quantized = quantize_weights.apply(plain(tmp_path, lambda x: x @ weight, None, 2), INT8).model
    assert answer_of(quantized, [[1.0, 1.0]])[0, 0] == 0.0


@pytest.mark.parametrize(
    "layer",
    [lambda x, w: x[0, 0] @ w, lambda x, w: tf.nn.conv2d(x, w[None, None], 1, "VALID")],
    ids=["dense", "conv"],
)
def test_float16_weights_are_the_nearest_halves(
    layer: Callable[..., tf.Tensor], tmp_path: Path
) -> None:
    settings = QuantizeWeights(name="quantize_weights", dtype="float16", minimum_size=1)
    weight = np.array([[1.0, 1.0003]], np.float32)  # float16 has steps of 1/1024 there
    model = plain(tmp_path, lambda x: layer(x, weight), 1, 1, 1, 1)
    quantized = quantize_weights.apply(model, settings).model
    assert quantized.operations()["Cast"] == 1
    assert answer_of(quantized, [[[[1.0]]]]).ravel().tolist() == [1.0, 1.0]


def test_an_embedding_is_looked_up_in_int8(tmp_path: Path) -> None:
    table = np.array([[127.0, 1.27], [64.4, -0.01]], np.float32)
    model = plain(tmp_path, lambda x: tf.gather(table, tf.cast(x, tf.int32)))
    change = quantize_weights.apply(model, INT8)
    edit = GraphEdit(change.model.signatures[SIGNATURE])
    (gather,) = edit.of_kind("GatherV2")
    table_in_graph = edit.constant(gather.input[0])
    assert table_in_graph is not None
    assert table_in_graph.dtype == np.int8
    np.testing.assert_allclose(answer_of(change.model, [1.0]), [[64.0, -0.01]], rtol=1e-6)


def test_small_weights_and_named_layers_stay_float(tmp_path: Path) -> None:
    model = plain(tmp_path, lambda x: tf.nn.relu(x @ KERNEL) @ KERNEL, None, 2)
    layers = quantize_weights.quantizable(model, INT8)
    assert len(layers) == 2
    change = quantize_weights.apply(model, QuantizeWeights(name="quantize_weights"))
    assert not change.is_change
    assert "left 2 (fewer than 1024 finite weights)" in change.note
    assert quantize_weights.apply(model, INT8, layers[:1]).model.operations()["Cast"] == 1


def test_activations_are_rounded_to_256_steps_of_their_range(tmp_path: Path) -> None:
    identity = np.eye(2, dtype=np.float32)
    model = plain(tmp_path, lambda x: x @ identity, None, 2)
    quantized = quantize_nodes.apply(model).model
    # computed range 0 to 255: steps of 1
    assert answer_of(quantized, [[255.0, 99.6]]).tolist() == [[255.0, 100.0]]
    frozen = freeze_requantization_ranges.apply(quantized, {"x:0": (0.0, 25.5)})
    assert frozen.model.operations()["Max"] == 0
    # calibrated range 0 to 25.5: steps of 0.1, cut off above
    np.testing.assert_allclose(answer_of(frozen.model, [[255.0, 9.96]]), [[25.5, 10.0]], rtol=1e-6)


def test_a_range_left_in_float_is_no_longer_rounded(tmp_path: Path) -> None:
    model = plain(tmp_path, lambda x: x @ np.eye(2, dtype=np.float32), None, 2)
    quantized = quantize_nodes.apply(model).model
    layers = freeze_requantization_ranges.quantized(quantized)
    assert layers == quantize_nodes.quantizable(model)
    kept = freeze_requantization_ranges.apply(quantized, {"x:0": (0.0, 1.0)}, layers).model
    assert answer_of(kept, [[255.0, 9.96]])[0].tolist() == pytest.approx([255.0, 9.96])


# --- calibration --------------------------------------------------------------------------------


def test_calibration_sees_what_each_layer_reads_and_repeats_itself(tmp_path: Path) -> None:
    model = plain(tmp_path, lambda x: tf.nn.relu(x @ KERNEL) @ KERNEL, None, 2)
    rows = {SIGNATURE: {"x": np.array([[1.0, 0.0], [0.0, -1.0], [0.0, 2.0]], np.float32)}}
    first, second = calibrate(model, rows, "minmax")
    assert (first.low, first.high) == (-1.0, 2.0)
    assert (second.low, second.high) == (0.0, 8.0)  # relu of 2 * [3, 4]
    assert calibrate(model, rows, "minmax") == [first, second]
    counts = observe(model, rows)[0].counts
    assert counts.sum() == 3  # exact zeros do not count


def test_kl_cuts_off_a_rare_outlier_and_minmax_does_not(tmp_path: Path) -> None:
    model = plain(tmp_path, lambda x: x @ KERNEL, None, 2)
    values = np.random.default_rng(0).normal(size=(4000, 2)).astype(np.float32)
    values[0, 0] = 100.0
    rows = {SIGNATURE: {"x": values}}
    assert calibrate(model, rows, "minmax")[0].high == 100.0
    assert 3.0 < calibrate(model, rows, "kl")[0].high < 20.0
    assert calibrate(model, rows, "kl") == calibrate(model, rows, "kl")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((0, 2), np.float32), "no rows for signature"),
        (np.zeros((3, 5), np.float32), "do not fit signature"),
        (np.full((3, 2), np.nan, np.float32), "expected finite ones"),
    ],
    ids=["empty", "wrong shape", "not finite"],
)
def test_rows_that_cannot_calibrate_are_refused(
    rows: np.ndarray, message: str, tmp_path: Path
) -> None:
    model = plain(tmp_path, lambda x: x @ KERNEL, None, 2)
    with pytest.raises(DataError, match=message):
        observe(model, {SIGNATURE: {"x": rows}})
