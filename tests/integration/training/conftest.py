"""A run whose `transform` was done by hand: small transformed shards, and a user's `model.py`."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.evaluate.evaluate import Evaluation, evaluate
from components.models import checkpoints
from components.models.user_model import build_model
from components.runs.tracking import Tracker
from components.train.train import TrainingJob, train
from contract.layout import RunLayout
from contract.loader import freeze_pipeline
from contract.records.data import TransformRecord
from contract.records.evaluation import EvaluateRecord
from contract.records.record import Artifact, Result
from contract.records.training import TrainRecord
from contract.schema.pipeline import PipelineConfig
from contract.storage import Attempt

PIPELINE = """
name: tiny
features:
  x: {dtype: float32, shape: [4]}
  colour: {dtype: string}
heads:
  kind: {task: multiclass_classification, classes: [a, b, c]}
ingest:
  source: {kind: csv, files: [rows.csv]}
train:
  steps: 40
  batch_size: 20
  checkpoint_every_steps: 10
  log_every_steps: 5
  learning_rate: 0.05
evaluate:
  slices: [colour]
  poll_seconds: 0.05
"""

MODEL = """
import keras

def build_model(features, hyperparameters):
    hidden = keras.layers.Dense(8, activation="relu")(features["x"])
    hidden = keras.layers.Dropout(0.1)(hidden)
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(hidden))
"""

SPEC = {"x": tf.io.FixedLenFeature([4], tf.float32)}


@dataclass
class HandMadeRun:
    """One frozen run, with the record that its `transform` would have left."""

    run: RunLayout
    config: PipelineConfig
    record: TransformRecord
    rows: Callable[[str], list[dict[str, Any]]]

    def shard(self, split: str, number: int = 0) -> Path:
        return self.run.step("transform") / self.record.shards[split][number]

    @property
    def graph(self) -> Path:
        return self.run.step("transform") / self.record.transform_graph

    @property
    def published(self) -> list[int]:
        return [manifest.step for manifest in checkpoints.list_published(self.run)]

    def train(self, tracker: Tracker | None = None) -> TrainRecord:
        return self.train_as(Attempt.claim(self.run.attempts("train")), tracker or Tracker())

    def train_as(self, attempt: Attempt, tracker: Tracker | None = None) -> TrainRecord:
        return train(TrainingJob(self.config, self.run, self.record, attempt, tracker or Tracker()))

    def evaluate(self, tracker: Tracker | None = None) -> tuple[EvaluateRecord, tuple[str, ...]]:
        attempt = Attempt.claim(self.run.attempts("evaluate"))
        return evaluate(
            Evaluation(self.config, self.run, self.record, tracker or Tracker(), attempt)
        )

    def model(self, step: int) -> keras.Model:
        model = build_model(self.config, self.run.frozen_pipeline, self.graph)
        checkpoints.load_weights(model, self.run, step)
        return model

    def start(self, component: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", f"components.{component}", "--pipeline", "tiny"]
        command += ["--run-id", self.run.run_id, "--root", str(self.run.root)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
        )

    def wait_for(self, condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
        deadline = time.monotonic() + 120
        while not condition():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                pytest.fail(f"it did not come to that:\n{process.communicate()[0]}")
            time.sleep(0.01)


@dataclass
class RunMaker:
    """Makes runs below one root; what a test does not name has a default above."""

    root: Path
    pipelines: Path
    names: list[str] = field(default_factory=list)

    def __call__(
        self,
        model: str = MODEL,
        overrides: Mapping[str, Any] | None = None,
        pipeline: str = PIPELINE,
        spec: Mapping[str, Any] = SPEC,
        rows: Callable[[str], list[dict[str, Any]]] | None = None,
    ) -> HandMadeRun:
        run = RunLayout(self.root, "tiny", f"run{len(self.names)}")
        self.names.append(run.run_id)
        folder = self.pipelines / "tiny"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pipeline.yaml").write_text(pipeline)
        (folder / "model.py").write_text(textwrap.dedent(model))
        (folder / "preprocessing.py").write_text("def preprocessing_fn(inputs): return inputs\n")
        freeze_pipeline(folder, run, dict(overrides or {}))
        config = PipelineConfig.model_validate_json(
            (run.frozen_pipeline / "resolved.json").read_bytes()
        )
        record = write_transformed(run, spec, rows or default_rows)
        return HandMadeRun(run, config, record, rows or default_rows)


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunMaker:
    pipelines = tmp_path / "pipelines"
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(pipelines))
    return RunMaker(tmp_path / "root", pipelines)


def default_rows(split: str) -> list[dict[str, Any]]:
    """Three clusters in four dimensions; ids tell the rows apart."""
    random = np.random.default_rng({"train": 1, "eval": 2, "test": 3}[split])
    rows = []
    for number in range(200 if split == "train" else 60):
        kind = int(random.integers(3))
        x = random.normal(size=4) + 2.0 * np.eye(4)[kind]
        rows.append(
            {
                "x": [float(v) for v in x],
                "label:kind": kind,
                "example_id": f"{split}-{number}",
                "slice:colour": ["red", "blue"][number % 2],
            }
        )
    return rows


def write_transformed(
    run: RunLayout, spec: Mapping[str, Any], rows: Callable[[str], list[dict[str, Any]]]
) -> TransformRecord:
    """Write two shards a split, a transform graph's metadata and `result.json`."""
    from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

    folder = run.step("transform")
    metadata = dataset_metadata.DatasetMetadata.from_feature_spec(dict(spec))
    metadata_io.write_metadata(metadata, str(folder / "graph" / "transformed_metadata"))
    shards, counts = {}, {}
    for split in ("train", "eval", "test"):
        made = rows(split)
        counts[split] = len(made)
        names = [f"{split}-{i:05d}-of-00002.tfrecord.gz" for i in range(2)]
        shards[split] = tuple(f"examples/{name}" for name in names)
        for i, name in enumerate(names):
            _write_shard(folder / "examples" / name, made[i::2])
    record = TransformRecord(transform_graph="graph", shards=shards, examples=counts)
    Result(
        step="transform",
        pipeline=run.pipeline,
        run_id=run.run_id,
        attempt=1,
        started_at=datetime.now(UTC),
        seconds=0.0,
        inputs={},
        artifacts={"examples": Artifact(path="examples", digest="sha256:0", size_bytes=0)},
        detail=record.model_dump(mode="json"),
    ).write(run.result("transform"))
    return record


def _write_shard(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for row in rows:
            features = {name: _feature(value) for name, value in row.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def _feature(value: Any) -> tf.train.Feature:
    values = value if isinstance(value, list) else [value]
    if values and isinstance(values[0], str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))
    if values and isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


@pytest.fixture
def summary_steps() -> Callable[[Path], dict[str, set[int]]]:
    """Read a folder of TensorBoard's event files: the steps of each tag."""

    def read(folder: Path) -> dict[str, set[int]]:
        tags: dict[str, set[int]] = {}
        for path in folder.glob("events*"):
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    tags.setdefault(value.tag, set()).add(event.step)
        return tags

    return read


@pytest.fixture(scope="module")
def module_make_run(tmp_path_factory: pytest.TempPathFactory) -> RunMaker:
    """`make_run` for runs that a whole module shares; nothing looks its pipeline up by name."""
    folder = tmp_path_factory.mktemp("runs")
    return RunMaker(folder / "root", folder / "pipelines")
