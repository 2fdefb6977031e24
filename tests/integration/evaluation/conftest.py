"""A run whose `transform` and `train` were done by hand: checkpoints whose worth is known."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
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
from contract.command import StepCommand
from contract.layout import RunLayout
from contract.loader import freeze_pipeline, load_frozen
from contract.records.data import TransformRecord
from contract.records.evaluation import EvaluateRecord
from contract.records.record import Artifact, Result
from contract.records.training import TrainingEnded, TrainRecord
from contract.schema.pipeline import PipelineConfig
from contract.storage import Attempt
from launching.processes.role_processes import command_line

PIPELINE = """
name: tiny
features:
  x: {dtype: float32, shape: [2]}
  colour: {dtype: string}
heads:
  kind: {task: binary_classification, classes: ["no", "yes"]}
ingest:
  source: {kind: csv, files: [rows.csv]}
bless: {metric: accuracy}
evaluate:
  slices: [colour]
  poll_seconds: 0.05
"""

MODEL = """
import keras

def build_model(features, hyperparameters):
    return keras.Model(inputs=features, outputs=keras.layers.Dense(1, name="last")(features["x"]))
"""

SPEC = {"x": tf.io.FixedLenFeature([2], tf.float32)}
EXAMPLES = 100

Row = dict[str, Any]


@pytest.fixture(scope="session")
def some_rows() -> list[Row]:
    return default_rows()


def default_rows() -> list[Row]:
    """The label is the sign of the first number: a model that looks at it alone is always right."""
    random = np.random.default_rng(5)
    made = []
    for number in range(EXAMPLES):
        x = random.normal(size=2)
        made.append(
            {
                "x": [float(v) for v in x],
                "label:kind": int(x[0] > 0),
                "example_id": f"{number}",
                "slice:colour": ["red", "blue"][number % 2],
            }
        )
    return made


@dataclass
class HandMadeRun:
    """One frozen run; `publish` makes a checkpoint of given weights."""

    run: RunLayout
    config: PipelineConfig
    record: TransformRecord
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def shard(self) -> Path:
        return self.run.step("transform") / self.record.shards["eval"][0]

    @property
    def model(self) -> keras.Model:
        graph = self.run.step("transform") / self.record.transform_graph
        return build_model(self.config, self.run.frozen_pipeline, graph)

    def publish(self, step: int, weights: tuple[float, float], bias: float = 0.0) -> None:
        model = self.model
        model.get_layer("last").set_weights([np.array(weights)[:, None], np.array([bias])])
        attempt = Attempt.claim(self.run.attempts("train"))
        snapshot = checkpoints.Snapshot(checkpoints.weights_of(model), {})
        checkpoints.publish(self.run, attempt, step, snapshot)

    def end(self, has_succeeded: bool = True, reason: str = "all steps done") -> None:
        TrainingEnded(
            has_succeeded=has_succeeded, last_step=0, reason=reason, ended_at=datetime.now(UTC)
        ).write(self.run.training_ended)

    def evaluation(self, tracker: Tracker | None = None, replica: int = 0) -> Evaluation:
        attempt = Attempt.claim(self.run.attempts("evaluate", replica))
        return Evaluation(
            self.config, self.run, self.record, tracker or Tracker(), attempt, replica
        )

    def evaluate(self, tracker: Tracker | None = None) -> tuple[EvaluateRecord, tuple[str, ...]]:
        return evaluate(self.evaluation(tracker))

    def train(self) -> TrainRecord:
        attempt = Attempt.claim(self.run.attempts("train"))
        return train(TrainingJob(self.config, self.run, self.record, attempt, Tracker()))

    def start(self, replica: int = 0, role: str = "") -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "components.evaluate", "--pipeline", "tiny"]
        command += ["--run-id", self.run.run_id, "--root", str(self.run.root)]
        command += ["--replica", str(replica)] if replica else []
        return self._started(command, {"TF_CONFIG": role} if role else {})

    def start_job(self) -> "subprocess.Popen[bytes]":
        """Start the step as an operator does: `evaluate.evaluators` processes, watched over."""
        command = StepCommand("evaluate", "tiny", self.run.run_id, str(self.run.root))
        return self._started(command_line(command, self.run), {})

    def _started(
        self, command: list[str], environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        with (self.run.path / "log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **environment}
            )
        self.processes.append(process)
        return process

    @property
    def said(self) -> str:
        """What the processes logged."""
        return (self.run.path / "log").read_text()


@dataclass
class RunMaker:
    """Makes runs below one root."""

    root: Path
    pipelines: Path
    count: int = 0
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def __call__(
        self,
        overrides: Mapping[str, Any] | None = None,
        rows: list[Row] | None = None,
        model: str = MODEL,
    ) -> HandMadeRun:
        run = RunLayout(self.root, "tiny", f"run{self.count}")
        self.count += 1
        folder = self.pipelines / "tiny"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pipeline.yaml").write_text(PIPELINE)
        (folder / "model.py").write_text(textwrap.dedent(model))
        (folder / "preprocessing.py").write_text("def preprocessing_fn(inputs): return inputs\n")
        freeze_pipeline(folder, run, dict(overrides or {}))
        record = write_transformed(run, rows or default_rows())
        return HandMadeRun(run, load_frozen(run), record, self.processes)


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunMaker]:
    pipelines = tmp_path / "pipelines"
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(pipelines))
    maker = RunMaker(tmp_path / "root", pipelines)
    yield maker
    for process in maker.processes:
        process.kill()
        process.wait()


def write_transformed(run: RunLayout, made: list[Row]) -> TransformRecord:
    """Write a shard a part, of the same examples, a transform graph and `result.json`."""
    from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io

    folder = run.step("transform")
    metadata = dataset_metadata.DatasetMetadata.from_feature_spec(dict(SPEC))
    metadata_io.write_metadata(metadata, str(folder / "graph" / "transformed_metadata"))
    (folder / "examples").mkdir(parents=True)
    shards = {split: f"examples/{split}-00000-of-00001.tfrecord.gz" for split in ("train", "eval")}
    for shard in shards.values():
        with tf.io.TFRecordWriter(str(folder / shard), "GZIP") as writer:
            for row in made:
                features = {name: _feature(value) for name, value in row.items()}
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    record = TransformRecord(
        transform_graph="graph",
        shards={split: (shard,) for split, shard in shards.items()},
        examples=dict.fromkeys(shards, len(made)),
    )
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


def _feature(value: Any) -> tf.train.Feature:
    values = value if isinstance(value, list) else [value]
    if isinstance(values[0], str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
