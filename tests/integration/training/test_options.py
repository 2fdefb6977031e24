"""What a training can be told: repeat itself, go step by step, scale its loss, show itself."""

import json
from collections.abc import Mapping
from datetime import datetime

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.models import checkpoints
from components.runs.tracking import Tracker
from components.train.learning.learner import make_learner
from components.train.learning.strategies import PeerStrategy
from components.train.peers.collectives import Alone
from components.train.watch.timeline import Timeline
from contract.errors import DataError, UserCodeError

BUILD = """
import keras
import tensorflow as tf
from pathlib import Path

def build_model(features, hyperparameters):
    hidden = keras.layers.Dense(8, activation="relu")(features["x"])
    hidden = keras.layers.Dropout(0.2)(hidden)
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(hidden))
"""


class History(Tracker):
    """Keeps what would go to MLflow."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[dict[str, float]] = []

    def log_metrics(
        self, values: Mapping[str, float], step: int = 0, logged_at: datetime | None = None
    ) -> None:
        del logged_at
        self.kept.append({**values, "step": step})


def arrays_of(made, step: int) -> dict[str, np.ndarray]:
    folder = made.run.checkpoint(step)
    return {**np.load(folder / "weights.npz"), **np.load(folder / "training.npz")}


def test_two_deterministic_trainings_are_equal_bit_for_bit(make_run):
    script_overrides = {"train.is_deterministic": True, "train.steps": 20}
    runs = [make_run(model=BUILD, overrides=script_overrides) for _ in range(2)]
    for made in runs:
        process = made.start("train")  # the switch is for the whole of a process
        assert process.communicate() and process.returncode == 0
    first, second = (arrays_of(made, 20) for made in runs)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)


def test_eagerly_python_runs_every_step(make_run):
    hook = """
calls = []

def loss(labels, outputs, weights):
    calls.append(outputs["kind"].numpy().shape)  # no graph has this
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels["kind"], outputs["kind"])
    Path(CALLS).write_text(str(calls))
    return weights * each
"""
    made = make_run(overrides={"train.eager": True, "train.steps": 3})
    path = made.run.path / "calls"
    (made.run.frozen_pipeline / "model.py").write_text(f"CALLS = {str(path)!r}\n{BUILD}{hook}")
    try:
        made.train()
    finally:
        tf.config.run_functions_eagerly(False)
    assert path.read_text() == str([(20, 3)] * 3)


def test_float16_scales_the_loss_and_skips_what_overflows(make_run):
    hook = """
def loss(labels, outputs, weights):
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels["kind"], outputs["kind"])
    return weights * each * 1e3  # the first scales, 2**15 times this, overflow
"""
    overrides = {"train.precision": "mixed_float16", "train.log_every_steps": 1}
    made = make_run(model=BUILD + hook, overrides=overrides)
    history = History()
    made.train(history)
    skipped = [f["is_skipped"] for f in history.kept]
    scales = [f["loss_scale"] for f in history.kept]
    assert skipped[0] == 1.0
    assert skipped[-1] == 0.0
    assert scales[0] == 2.0**15
    # it halves after each skipped step, and is the checkpoint's too
    assert scales[-1] == 2.0 ** (15 - sum(skipped))
    state = arrays_of(made, 40)
    assert state["loss_scale"][0] == scales[-1]
    assert state["optimizer:0"] == 40 - sum(skipped)  # iterations


def test_float16_diverges_where_no_loss_scale_is_small_enough(make_run):
    hook = """
def loss(labels, outputs, weights):
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels["kind"], outputs["kind"])
    return weights * each * float("nan")
"""
    made = make_run(model=BUILD + hook, overrides={"train.precision": "mixed_float16"})
    # 2**15 is halved in each of 15 steps: the sixteenth is the first that nothing excuses
    with pytest.raises(DataError, match=r"loss is nan at step 16; .*began in step 16: the loss"):
        made.train()
    assert made.published == [10]


def test_ids_that_come_twice_in_a_batch_count_as_their_sum(make_run):
    model = """
import keras

def build_model(features, hyperparameters):
    ids = keras.ops.cast(features["x"] > 0.5, "int32")
    hidden = keras.layers.Flatten()(keras.layers.Embedding(2, 4)(ids))
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(hidden))
"""
    # a norm that nothing reaches: clipping makes gradients dense, in which each row is a sum
    sparse, dense = (
        make_run(model=model, overrides={"train.steps": 10, **more})
        for more in ({}, {"train.clip_norm": 1e9})
    )
    sparse.train()
    dense.train()
    for found, expected in zip(
        checkpoints_weights(sparse, 10), checkpoints_weights(dense, 10), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_callbacks_learning_rate_is_used(make_run):
    hook = """
class Stand(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 9:
            self.model.optimizer.learning_rate = 0.0

def callbacks(hyperparameters, steps):
    return [Stand()]
"""
    made = make_run(model=BUILD + hook, overrides={"train.steps": 20})
    made.train()
    before, after = (checkpoints_weights(made, step) for step in (10, 20))
    for found, expected in zip(after, before, strict=True):
        np.testing.assert_array_equal(found, expected)


def checkpoints_weights(made, step: int) -> list[np.ndarray]:
    return list(np.load(made.run.checkpoint(step) / "weights.npz").values())


def test_summaries_histograms_and_a_timeline_are_left_for_tensorboard(make_run, summary_steps):
    overrides = {
        "train.steps": 10,
        "train.histogram_every_steps": 5,
        "train.profile_steps": [3, 4],
    }
    made = make_run(model=BUILD, overrides=overrides)
    made.train()
    folder = made.run.summaries
    tags = summary_steps(folder)
    assert {"loss", "learning_rate", "examples_per_second", "input_wait_ratio"} <= tags.keys()
    assert tags["loss"] == {5, 10}
    assert any(steps == {5, 10} for tag, steps in tags.items() if "kernel" in tag)
    assert list(folder.glob("plugins/profile/*/*.xplane.pb"))


def test_a_timeline_is_written_though_its_last_step_never_comes(tmp_path):
    for folder in (tmp_path / "ended", tmp_path / "passed"):
        timeline = Timeline((3, 9), folder, Tracker())
        with timeline.step(3):
            tf.zeros([2]) + 1
        if folder.name == "ended":
            timeline.close()
        else:
            with timeline.step(10):
                pass
        assert list(folder.glob("plugins/profile/*/*.xplane.pb"))


def test_xla_is_refused_where_a_layer_waits_for_other_processes(make_run):
    model = """
import keras

def build_model(features, hyperparameters):
    hidden = keras.layers.BatchNormalization(synchronized=True, name="norm")(features["x"])
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(hidden))
"""
    made = make_run(model=model, overrides={"train.jit_compile": True})
    strategy = PeerStrategy(Alone(), "CPU:0")
    with pytest.raises(UserCodeError, match="'norm' is synchronized, but what XLA compiles cannot"):
        make_learner(made.config, made.run.frozen_pipeline, made.graph, strategy)


def test_a_checkpoint_of_another_model_is_refused_with_the_difference(make_run):
    made = make_run(model=BUILD)
    made.train()
    (made.run.frozen_pipeline / "model.py").write_text(BUILD.replace("Dense(8", "Dense(9"))
    with pytest.raises(DataError, match=r"does not fit the model: found .*kernel \[4, 8\], exp"):
        made.train()


def test_a_checkpoint_of_another_optimizer_is_refused(make_run):
    made = make_run(model=BUILD)
    made.train()
    sgd = "\ndef optimizer(hyperparameters, steps):\n    return keras.optimizers.SGD(0.1)\n"
    (made.run.frozen_pipeline / "model.py").write_text(BUILD + sgd)
    with pytest.raises(DataError, match="another model or optimizer wrote it; start a new run"):
        made.train()


def test_a_gradient_of_another_shape_is_refused(make_run):
    hook = """
def train_step(model, features, labels, weights, compute_loss):
    return tf.reduce_sum(weights), [tf.zeros([2]) for _ in model.trainable_variables]
"""
    with pytest.raises(UserCodeError, match=r"gradient of '.*kernel' has shape \(2,\); expected"):
        make_run(model=BUILD + hook).train()


def test_checkpoints_are_written_beside_the_training(make_run):
    made = make_run(model=BUILD, overrides={"train.checkpoint_every_steps": 40})
    history = History()
    made.train(history)
    assert made.published == [40]
    assert {"checkpoint_stall_ms"} <= history.kept[-1].keys()
    manifest = json.loads(made.run.checkpoint_manifest(40).read_text())
    assert set(manifest["files"]) == {"weights.npz", "training.npz"}
    assert checkpoints.problem_of(made.run, checkpoints.list_published(made.run)[0]) == ""
    assert isinstance(made.model(40), keras.Model)
