"""Whatever graph of common layers: optimised equals original."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from small_models import FLOAT_ONLY, SIGNATURE

from components.models.saved_models import load
from components.optimize.graph.graphs import GraphModel
from components.optimize.passes.registry import FLOAT_PASSES

CHANNELS = 3
ROWS = np.random.default_rng(3).normal(size=(4, 5, 5, CHANNELS)).astype(np.float32)
KINDS = (
    "conv",
    "valid_conv",
    "depthwise",
    "norm",
    "fused_norm",
    "bias",
    "relu",
    "pool",
    "add",
    "concat",
    "dense",
    "transposed",
)


def network(kinds: list[str], random: np.random.Generator) -> Any:
    """Return a function of `[rows, 5, 5, 3]`; weights are random, channels stay three."""

    def draw(*shape: int, least: float | None = None) -> np.ndarray:
        values = (
            random.normal(0.0, 0.5, shape) if least is None else random.uniform(least, 2, shape)
        )
        return values.astype(np.float32)

    steps = []
    for kind in kinds:
        kernel, vector = draw(3, 3, CHANNELS, CHANNELS), [draw(CHANNELS) for _ in range(3)]
        small, deep, variance = (
            draw(1, 1, CHANNELS, CHANNELS),
            draw(3, 3, CHANNELS, 1),
            draw(CHANNELS, least=0.2),
        )
        wide = draw(1, 1, 2 * CHANNELS, CHANNELS)
        steps.append((kind, kernel, small, deep, wide, vector, variance))
    final = draw(CHANNELS, 4)

    def call(x: tf.Tensor) -> dict[str, tf.Tensor]:
        for kind, kernel, small, deep, wide, vector, variance in steps:
            match kind:
                case "conv":
                    x = tf.nn.conv2d(x, kernel, 1, "SAME")
                case "valid_conv":
                    x = tf.nn.conv2d(x, small, 1, "VALID")
                case "depthwise":
                    x = tf.nn.depthwise_conv2d(x, deep, [1, 1, 1, 1], "SAME")
                case "norm":
                    x = tf.nn.batch_normalization(x, vector[0], variance, vector[1], vector[2], 0.1)
                case "fused_norm":
                    x = tf.compat.v1.nn.fused_batch_norm(
                        x, vector[0], vector[1], vector[2], variance, is_training=False
                    )[0]
                case "bias":
                    x = tf.nn.bias_add(x, vector[0])
                case "relu":
                    x = tf.nn.relu(x)
                case "pool":
                    x = tf.nn.max_pool2d(x, 2, 1, "SAME")
                case "add":
                    x = x + tf.nn.conv2d(x, small, 1, "VALID")
                case "dense":
                    x = tf.reshape(tf.reshape(x, [-1, CHANNELS]) @ small[0, 0], tf.shape(x))
                case "transposed":
                    x = tf.nn.conv2d_transpose(x, kernel, tf.shape(x), 1, "SAME")
                case "concat":
                    x = tf.nn.conv2d(tf.concat([x, tf.nn.relu(x)], -1), wide, 1, "SAME")
        return {"y": tf.reduce_mean(x, [1, 2]) @ final}

    return call


@seed(20_261_121)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6), number=st.integers(0, 2**31))
def test_optimised_equals_original_on_random_graphs(kinds: list[str], number: int) -> None:
    function = tf.function(network(kinds, np.random.default_rng(number)), autograph=False)
    spec = tf.TensorSpec([None, 5, 5, CHANNELS], tf.float32, "x")
    traced = function.get_concrete_function(spec)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, {SIGNATURE: traced})
        model = GraphModel.lift(Path(folder))
        for name in (*FLOAT_ONLY, "fuse"):
            model = FLOAT_PASSES[name](model).model
        model.save(Path(folder, "optimized"))
        optimized = load(Path(folder, "optimized")).signature(SIGNATURE)
    expected = traced(tf.constant(ROWS))["y"].numpy()
    found = optimized(x=tf.constant(ROWS))["y"].numpy()
    scale = max(float(np.abs(expected).max()), 1e-6)
    assert np.abs(found - expected).max() <= 1e-5 * scale, kinds
