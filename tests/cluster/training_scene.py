"""The real trainer in pods of a test cluster, as its launcher runs it."""

import asyncio
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusters import ROOT, TestCluster, host_pods

from contract.command import StepCommand
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records.record import Result
from contract.records.training import TrainRecord
from contract.schema.cluster import JobConfig
from operators.job_spec import JobSpec, training_job
from operators.launchers.claim import Claim
from operators.launchers.cluster import Cluster
from operators.launchers.kinds import RESOURCES, open_job
from operators.launchers.restarts import JobEnd
from operators.manifests import TASK

SETTINGS = JobConfig(grace_seconds=5, max_restarts=3, restart_backoff_seconds=0.5)


@dataclass
class TrainingScene:
    """One set of transformed examples, and the runs that train on them."""

    clusters: dict[str, TestCluster]
    root: Path

    def run_of(self, run_id: str, **overrides: Any) -> RunLayout:
        """Return a run of its own, frozen with overrides, on the shared examples."""
        base = RunLayout(self.root, "digits", "base")
        run = RunLayout(self.root, "digits", run_id)
        arguments = StepCommand("ingest", "digits", run_id, str(self.root), overrides).arguments()
        subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True)
        for step in ("ingest", "validate", "transform"):
            shutil.rmtree(run.step(step), ignore_errors=True)
            shutil.copytree(base.step(step), run.step(step))
        return run

    def train(
        self,
        run: RunLayout,
        disturb: Callable[[JobSpec], None] | None = None,
        settings: JobConfig = SETTINGS,
    ) -> tuple[JobEnd, str]:
        """Train a run in pods, disturb it meanwhile, and return its end and its log."""
        kubernetes = host_pods(self.clusters, self.root)
        command = StepCommand("train", "digits", run.run_id, str(self.root))
        job = training_job(
            f"digits-{run.run_id}", command, load_frozen(run).train, settings, sys.executable
        ).model_copy(update={"labels": {TASK: run.run_id}})
        said: list[str] = []

        def say(level: int, text: str) -> None:
            said.append(f"{logging.getLevelName(level)} {text}")

        async def drive() -> JobEnd:
            async with Cluster(self.clusters["train"].settings, patience_seconds=30) as cluster:
                claim = Claim(cluster, RESOURCES[settings.kind], job.labels, 0, 1)
                driver = open_job(cluster, job, kubernetes, claim, say)
                return await asyncio.wait_for(driver.run(), 400)

        if disturb is not None:
            threading.Thread(target=disturb, args=(job,), daemon=True).start()
        return asyncio.run(drive()), "\n".join(said)


def training_scene(clusters: dict[str, TestCluster], root: Path) -> TrainingScene:
    """Make the examples in an empty folder that pods can read."""
    for folder in (root, *root.parents[:3]):
        folder.chmod(0o755)
    for step in ("ingest", "validate", "transform"):
        command = StepCommand(step, "digits", "base", str(root)).arguments()
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return TrainingScene(clusters, root)


def trained(run: RunLayout) -> TrainRecord:
    return Result.read(run.result("train")).detail_as(TrainRecord)
