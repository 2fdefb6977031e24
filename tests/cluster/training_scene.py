"""The real trainer in pods of a test cluster, as its launcher runs it."""

import asyncio
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusters import TestCluster, host_pods, let_pods_in
from support import handmade_runs

from contract.clients.cluster import Cluster
from contract.command import StepCommand
from contract.layout import PipelineLayout, RunLayout
from contract.loader import freeze_pipeline, load_frozen
from contract.pipelines import find_pipeline
from contract.records.record import Result
from contract.records.training import TrainRecord
from contract.schema.cluster import JobConfig
from launching.cluster.claim import Claim
from launching.cluster.kinds import RESOURCES, open_job
from launching.cluster.manifests import TASK
from launching.job_spec import JobSpec, training_job
from launching.restarts import JobEnd

SETTINGS = JobConfig(grace_seconds=5, max_restarts=3, restart_backoff_seconds=0.5)


@dataclass
class TrainingScene:
    """One set of transformed examples, and the runs that train on them."""

    clusters: dict[str, TestCluster]
    root: Path

    @property
    def writable(self) -> Path:
        """The folder of the shared storage that pods of step `train` may change."""
        return PipelineLayout(self.root, "digits").path

    def run_of(self, run_id: str, **overrides: Any) -> RunLayout:
        """Return a run of its own, frozen with overrides, on the shared examples."""
        run = RunLayout(self.root, "digits", run_id)
        freeze_pipeline(find_pipeline("digits"), run, overrides)
        base = RunLayout(self.root, "digits", "base")
        shutil.copytree(base.step("transform"), run.step("transform"))
        return run

    def job(self, run: RunLayout, settings: JobConfig, python: str) -> JobSpec:
        command = StepCommand("train", "digits", run.run_id, str(self.root))
        config = load_frozen(run).train
        job = training_job(f"digits-{run.run_id}", command, config, settings, python)
        return job.model_copy(update={"labels": {TASK: run.run_id}})

    def train(
        self,
        run: RunLayout,
        disturb: Callable[[JobSpec], None] | None = None,
        settings: JobConfig = SETTINGS,
    ) -> tuple[JobEnd, str]:
        """Train a run in pods, disturb it meanwhile, and return its end and its log."""
        kubernetes = host_pods(self.clusters, self.root)
        job = self.job(run, settings, kubernetes.pod.python)
        said: list[str] = []

        def say(level: int, text: str) -> None:
            said.append(f"{logging.getLevelName(level)} {text}")

        async def drive() -> JobEnd:
            async with Cluster(self.clusters["train"].settings, patience_seconds=30) as cluster:
                claim = Claim(cluster, RESOURCES[settings.kind], job.labels, 0, 1)
                driver = open_job(cluster, job, kubernetes, claim, say)
                return await asyncio.wait_for(driver.run(), 800)

        if disturb is not None:
            threading.Thread(target=disturb, args=(job,), daemon=True).start()
        return asyncio.run(drive()), "\n".join(said)


def training_scene(clusters: dict[str, TestCluster], root: Path) -> TrainingScene:
    """Write the examples, as `transform` would, in an empty folder that pods can read."""
    import tensorflow as tf

    let_pods_in(root)
    spec = {"image": tf.io.FixedLenFeature([8, 8], tf.float32)}
    base = RunLayout(root, "digits", "base")
    handmade_runs("training").write_transformed(base, spec, _digits)
    return TrainingScene(clusters, root)


def _digits(split: str) -> list[dict[str, Any]]:
    """Return rows of scikit-learn's digits: seven tenths to train on, the rest for both others."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return [
        {"image": [float(x) for x in image.flat], "label:digit": int(target), "example_id": str(i)}
        for i, (image, target) in enumerate(zip(data.images / 16.0, data.target, strict=True))
        if (i % 10 < 7) == (split == "train")
    ]


def trained(run: RunLayout) -> TrainRecord:
    return Result.read(run.result("train")).detail_as(TrainRecord)
