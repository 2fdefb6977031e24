"""One small run up to `evaluate`, made by the real components, shared by the tests of this folder.

Its pipeline has what breaks graphs: a vocabulary, a cross of a bucketed number, a variable-length
feature, a fixed shape through a convolution with augmentation and batch normalisation, a missing
value with a default, two heads.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import warm

from contract.command import StepCommand
from contract.layout import RunLayout
from contract.places import CODE_FOLDER

ROWS = 900
STEPS_BEFORE = ("ingest", "validate", "transform", "train", "evaluate")

CONFIG = """
name: parcels
features:
  weight_kg: { dtype: float32 }
  colour: { dtype: string, default: grey }
  stamps: { dtype: string, is_variable_length: true }
  picture: { dtype: float32, shape: [6, 6] }
heads:
  is_large: { task: binary_classification, classes: ["no", "yes"] }
  price: { task: regression, loss_weight: 0.2 }
ingest:
  source: { kind: parquet, files: [parcels.parquet] }
  split: { train: 0.6, eval: 0.2, test: 0.2 }
train: { steps: 120, batch_size: 64, learning_rate: 0.01, checkpoint_every_steps: 60 }
evaluate: { timeout_seconds: 60 }
bless: { metric: auc, head: is_large, thresholds: { auc: 0.7 }, margin: 0.05 }
package: { loadtest: { seconds: 1, concurrency: 4 } }
"""

PREPROCESSING = """
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    def ids(values, name):
        return 1 + tft.compute_and_apply_vocabulary(values, num_oov_buckets=1, vocab_filename=name)

    heaviness = tf.strings.as_string(tft.bucketize(inputs["weight_kg"], 4))
    crossed = tf.strings.join([inputs["colour"], heaviness], separator="|")
    return {
        "colour_heaviness": tf.strings.to_hash_bucket_fast(crossed, 16),
        "mass": tft.scale_to_z_score(inputs["weight_kg"]),
        "colour": ids(inputs["colour"], "colours"),
        "stamps": ids(inputs["stamps"], "stamps"),
        "picture": inputs["picture"] / 255.0,
    }
"""

MODEL = """
import keras


def build_model(features, hyperparameters):
    layers = keras.layers

    def embedded(name, size):
        return layers.Flatten()(layers.Embedding(size, 3)(layers.Reshape((1,))(features[name])))

    colour, crossed = embedded("colour", 8), embedded("colour_heaviness", 16)
    is_stamp = keras.ops.cast(keras.ops.not_equal(features["stamps"], 0), "float32")
    stamps = layers.Embedding(16, 4)(features["stamps"]) * is_stamp[..., None]
    stamps = keras.ops.sum(stamps, axis=1)  # of none at all: 0, where a mean would be NaN
    picture = layers.Reshape((6, 6, 1))(features["picture"])
    picture = layers.RandomTranslation(0.1, 0.1)(picture)  # has a random seed to look after
    picture = layers.Conv2D(4, 3)(picture)
    picture = layers.Flatten()(layers.ReLU()(layers.BatchNormalization(momentum=0.9)(picture)))
    weight = layers.Reshape((1,))(features["mass"])
    parts = [weight, colour, crossed, stamps, picture]
    joined = layers.Dense(16, "relu")(layers.Concatenate()(parts))
    joined = layers.Dropout(0.1)(joined)
    return keras.Model(
        inputs=features,
        outputs={"is_large": layers.Dense(1)(joined), "price": layers.Dense(1)(joined)},
    )
"""


def parcels(rows: int = ROWS) -> pa.Table:
    """Return made-up parcels: large ones are heavy, bright and often red."""
    random = np.random.default_rng(4)
    is_large = random.random(rows) < 0.4
    colours = np.where(
        random.random(rows) < 0.7,
        np.where(is_large, "red", "blue"),
        random.choice(["red", "green"]),
    ).astype(object)
    colours[random.random(rows) < 0.1] = None
    weight = random.normal(np.where(is_large, 6.0, 3.0), 2.0)
    pictures = np.clip(
        random.normal(np.where(is_large, 150.0, 100.0)[:, None], 60.0, (rows, 36)), 0, 255
    )
    stamps = [
        random.choice(["air", "sea", "rail", "fragile"], n).tolist()
        for n in random.integers(0, 5, rows)
    ]
    return pa.table(
        {
            "weight_kg": pa.array(weight, pa.float32()),
            "colour": pa.array(colours.tolist(), pa.string()),
            "stamps": pa.array(stamps, pa.list_(pa.string())),
            "picture": pa.array(pictures.tolist(), pa.list_(pa.float32())),
            "is_large": pa.array(["yes" if large else "no" for large in is_large]),
            "price": pa.array(2.0 + 0.5 * weight + random.normal(0, 0.2, rows), pa.float32()),
        }
    )


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pipeline folders, for SLIPWAY_PIPELINES."""
    folder = tmp_path_factory.mktemp("pipelines")
    (folder / "parcels").mkdir()
    (folder / "parcels" / "pipeline.yaml").write_text(CONFIG)
    (folder / "parcels" / "preprocessing.py").write_text(PREPROCESSING)
    (folder / "parcels" / "model.py").write_text(MODEL)
    pq.write_table(parcels(), folder / "parcels" / "parcels.parquet")
    return folder


@dataclass(frozen=True)
class ComponentRunner:
    """Runs steps as the processes that they are, without tracking and without an agent."""

    pipelines: Path
    warm_parent: Path

    def start(self, run: RunLayout, step: str) -> "subprocess.Popen[str]":
        """Start a step as a fresh process."""
        return subprocess.Popen(
            self._command(run, step).arguments(sys.executable),
            cwd=CODE_FOLDER,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(
        self, run: RunLayout, step: str, redeploy: int | None = None, **overrides: Any
    ) -> tuple[int, str]:
        """Run a step to its end as a fork; return its exit code and what it said.

        `__` in an override's name stands for a dot.
        """
        settings = {name.replace("__", "."): value for name, value in overrides.items()}
        command = self._command(run, step, settings, redeploy).arguments(sys.executable)
        return warm.run(self.warm_parent, command, run.process_lock(step), self._environment)

    def _command(
        self,
        run: RunLayout,
        step: str,
        settings: Mapping[str, Any] = MappingProxyType({}),
        redeploy: int | None = None,
    ) -> StepCommand:
        return StepCommand(step, run.pipeline, run.run_id, str(run.root), settings, redeploy)

    @property
    def _environment(self) -> dict[str, str]:
        return warm.environment_of(SLIPWAY_PIPELINES=str(self.pipelines))


@pytest.fixture(scope="session")
def component(pipelines: Path, warm_parent: Path) -> ComponentRunner:
    """Runs steps of pipeline `parcels`."""
    return ComponentRunner(pipelines, warm_parent)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that whichever process of this session needs it first has made."""
    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    folder, unfinished = session / name, session / f"{name}.part"
    with (session / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            make(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def trained_run(component: ComponentRunner, tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    """A run with all results up to `evaluate`. Tests copy it; they do not write into it."""

    def make(root: Path) -> None:
        run = RunLayout(root, "parcels", "trained")
        for step in STEPS_BEFORE:
            code, said = component(run, step)
            assert code == 0, said

    return RunLayout(made_once(tmp_path_factory, "trained", make), "parcels", "trained")


@pytest.fixture(scope="session")
def optimized_run(
    trained_run: RunLayout, component: ComponentRunner, tmp_path_factory: pytest.TempPathFactory
) -> RunLayout:
    """The same run after `bless` and `optimize`, in a root of its own."""

    def make(root: Path) -> None:
        shutil.copytree(trained_run.root, root)
        for step in ("bless", "optimize"):
            code, said = component(RunLayout(root, "parcels", "trained"), step)
            assert code == 0, said

    return RunLayout(made_once(tmp_path_factory, "optimized", make), "parcels", "trained")


@pytest.fixture
def own_run(optimized_run: RunLayout, tmp_path: Path) -> RunLayout:
    """A copy of `optimized_run` that a test may break."""
    run = RunLayout(tmp_path / "own", "parcels", "trained")
    shutil.copytree(optimized_run.root, run.root)
    return run
