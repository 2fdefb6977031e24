"""`mirrored` on two devices computes what `single` computes on one, number by number."""

import os
import subprocess
import sys

import numpy as np
import pytest

HEADER = """
import keras
from keras import layers

"""

PLAIN = """
def build_model(features, hyperparameters):
    hidden = layers.Dense(8, activation="relu")(features["x"])
    return keras.Model(inputs=features, outputs=layers.Dense(3)(hidden))
"""

PENALISED = """
def build_model(features, hyperparameters):
    hidden = layers.Dense(8, kernel_regularizer="l2")(features["x"])
    return keras.Model(inputs=features, outputs=layers.Dense(3)(hidden))
"""

# Statistics over all replicas' examples, as BatchNormalization offers them.
NORMALISED = """
def build_model(features, hyperparameters):
    hidden = layers.Dense(8)(features["x"])
    hidden = layers.BatchNormalization(synchronized=True, momentum=0.9)(hidden)
    return keras.Model(inputs=features, outputs=layers.Dense(3)(hidden))
"""

# Only the input is normalised, so that nothing else depends on the replicas' own statistics.
NORMALISED_APART = """
def build_model(features, hyperparameters):
    aside = layers.BatchNormalization(momentum=0.9)(features["x"])
    hidden = layers.Dense(3)(features["x"])
    return keras.Model(inputs=features, outputs=hidden + 0.0 * aside[:, :3])
"""

EMBEDDED = """
def build_model(features, hyperparameters):
    ids = keras.ops.cast(features["x"] > 0.5, "int32")
    hidden = layers.Flatten()(layers.Embedding(2, 4)(ids))
    return keras.Model(inputs=features, outputs=layers.Dense(3)(hidden))
"""

MOMENTUM = """
def optimizer(hyperparameters, steps):
    return keras.optimizers.SGD(0.1, momentum=0.9)
"""

CASES = {
    "adam": (PLAIN, {}),
    "momentum": (PLAIN + MOMENTUM, {}),
    "clipped": (PLAIN + MOMENTUM, {"train.clip_norm": 0.05}),
    "weighted": (PLAIN + MOMENTUM, {"weight": "importance"}),
    "penalised": (PENALISED + MOMENTUM, {}),
    "batch_of_odd_size": (PLAIN + MOMENTUM, {"train.batch_size": 15}),
    "synchronised_normalisation": (NORMALISED + MOMENTUM, {}),
    "in_parts": (PLAIN + MOMENTUM, {"train.accumulation_steps": 3}),
    "float16": (PLAIN + MOMENTUM, {"train.precision": "mixed_float16"}),
    "embedding_clipped": (EMBEDDED + MOMENTUM, {"train.clip_norm": 0.05}),
}

# A process of its own: logical devices must be made before TensorFlow starts.
SCRIPT = """
import sys
import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from pathlib import Path
from components.train.learning.learner import make_learner
from components.train.learning.steps import step_function
from components.train.learning.strategies import open_strategy
from components.data.examples import example_source
from components.train.peers.collectives import Alone
from components.train.input.feeding import Order, open_feed
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records.data import TransformRecord
from contract.records.record import Result
from contract.schema.training import TrainConfig

# One of each for all cases: TensorFlow's collective keys start anew with every MirroredStrategy,
# and two of them in one process mix their reductions up.
strategies = {
    name: open_strategy(TrainConfig(strategy=name), Alone()) for name in ("single", "mirrored")
}
root, *run_ids = sys.argv[1:]
for run_id in run_ids:
    run = RunLayout(Path(root), "tiny", run_id)
    record = Result.read(run.result("transform")).detail_as(TransformRecord)
    config = load_frozen(run)
    for name, strategy in strategies.items():
        assert strategy.num_replicas_in_sync == {"single": 1, "mirrored": 2}[name]
        source = example_source(run, config, record, "train")
        graph = run.step("transform") / record.transform_graph
        learner = make_learner(config, run.frozen_pipeline, graph, strategy)
        batches = open_feed(source, Order(config.train.batch_size, seed=7)).batches()
        batches = iter(strategy.experimental_distribute_dataset(batches))
        step = step_function(learner, config.train.batch_size)
        losses = [float(step(batches)["loss"]) for _ in range(12)]
        values = map(keras.ops.convert_to_numpy, learner.model.weights)
        weights = {str(number): value for number, value in enumerate(values)}
        copies = [
            [np.asarray(c) for c in strategy.experimental_local_results(v.value)]
            for v in learner.model.weights
        ]
        for one in copies:
            for other in one[1:]:
                np.testing.assert_array_equal(one[0], other)
        iterations = keras.ops.convert_to_numpy(learner.optimizer.iterations)
        np.savez(run.path / f"{name}.npz", losses=losses, iterations=iterations, **weights)
"""


def weighted_rows(split: str) -> list[dict]:
    random = np.random.default_rng(4)
    return [
        {
            "x": [float(v) for v in random.normal(size=4) + 2 * np.eye(4)[number % 3]],
            "label:kind": number % 3,
            "weight": float(random.uniform(0.1, 3)),
            "example_id": str(number),
            "slice:colour": "red",
        }
        for number in range(100)
    ]


@pytest.fixture(scope="module")
def both(module_make_run) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    models = {**CASES, "statistics": (NORMALISED_APART + MOMENTUM, {})}
    made = {
        case: module_make_run(model=HEADER + model, overrides=overrides, rows=weighted_rows)
        for case, (model, overrides) in models.items()
    }
    run_ids = [one.run.run_id for one in made.values()]
    root = next(iter(made.values())).run.root
    command = [sys.executable, "-c", SCRIPT, str(root), *run_ids]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return {
        case: {name: dict(np.load(one.run.path / f"{name}.npz")) for name in ("single", "mirrored")}
        for case, one in made.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_mirrored_is_single_number_by_number(both, case):
    single, mirrored = both[case]["single"], both[case]["mirrored"]
    assert single["iterations"] == mirrored["iterations"] == 12
    rtol, atol = (5e-3, 2e-3) if case == "float16" else (2e-5, 2e-6)  # 11 bits, and 24
    for name, expected in single.items():
        np.testing.assert_allclose(mirrored[name], expected, rtol=rtol, atol=atol, err_msg=name)


def test_a_batch_in_parts_is_the_whole_batch(both):
    for name, expected in both["momentum"]["single"].items():
        found = both["in_parts"]["single"][name]
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6, err_msg=name)


def test_moving_statistics_are_the_mean_of_the_replicas(both):
    """Of halves of equal size the mean of means is the whole's mean; the script compares copies."""
    single, mirrored = both["statistics"]["single"], both["statistics"]["mirrored"]
    moving_mean = [n for n, v in single.items() if v.shape == (4,)][2]
    np.testing.assert_allclose(mirrored[moving_mean], single[moving_mean], rtol=1e-5)
    assert np.abs(single[moving_mean]).max() > 0.1  # it has moved
