"""The real trainer in pods: several strategies, and the death of each role."""

import asyncio
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from clusters import ROOT, TestCluster, host_pods, wait_for
from kubeflow_stand_in import KubeflowStandIn

from contract.command import StepCommand
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records.record import Result
from contract.records.training import TrainRecord
from contract.schema.cluster import JobConfig, JobKind
from operators.job_spec import JobSpec, training_job
from operators.launchers.claim import Claim
from operators.launchers.cluster import Cluster
from operators.launchers.kinds import RESOURCES, open_job
from operators.launchers.restarts import JobEnd
from operators.manifests import TASK

SETTINGS = JobConfig(grace_seconds=5, max_restarts=3, restart_backoff_seconds=0.5)
SHORT = {"train.steps": 60, "train.checkpoint_every_steps": 20}


@dataclass
class Scene:
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


@pytest.fixture(scope="module")
def scene(
    clusters: dict[str, TestCluster], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("training-in-pods")
    for folder in (root, *root.parents[:3]):
        folder.chmod(0o755)
    for step in ("ingest", "validate", "transform"):
        command = StepCommand(step, "digits", "base", str(root)).arguments()
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    yield Scene(clusters, root)


def trained(run: RunLayout) -> TrainRecord:
    return Result.read(run.result("train")).detail_as(TrainRecord)


def test_workers_train_in_step_and_go_on_after_one_was_killed(scene: Scene) -> None:
    long = {"train.steps": 300, "train.checkpoint_every_steps": 50}
    run = scene.run_of("mw", **{**long, "train.strategy": "multi_worker", "train.workers": 2})

    def kill_worker(job: JobSpec) -> None:
        wait_for(lambda: run.checkpoint_manifest(50).exists(), 300)
        scene.clusters["train"].kill_container(f"{job.name}-worker-0-0")

    end, said = scene.train(run, kill_worker)
    assert end.is_good, said
    assert trained(run).last_step == 300
    assert trained(run).resumed_from_step >= 50, "the kill came too late to disturb"
    assert "worker-0: exit code 137" in said


def test_parameter_servers_train_and_go_on_after_one_was_killed(scene: Scene) -> None:
    strategy = {"train.strategy": "parameter_server", "train.workers": 1}
    long = {"train.steps": 400, "train.checkpoint_every_steps": 50}
    run = scene.run_of("ps", **{**long, **strategy})

    def kill_server(job: JobSpec) -> None:
        wait_for(lambda: run.checkpoint_manifest(50).exists(), 300)
        scene.clusters["train"].kill_container(f"{job.name}-ps-0-0")

    end, said = scene.train(run, kill_server)
    assert end.is_good, said
    assert trained(run).last_step == 400
    assert "ps-0: exit code 137" in said


def test_a_killed_chief_goes_on_from_its_last_checkpoint(scene: Scene) -> None:
    long = {"train.steps": 3000, "train.checkpoint_every_steps": 500}
    run = scene.run_of("chief", **long)

    def kill_chief(job: JobSpec) -> None:
        wait_for(lambda: run.checkpoint_manifest(500).exists(), 300)
        scene.clusters["train"].kill_container(f"{job.name}-chief-0-0")

    end, said = scene.train(run, kill_chief)
    assert end.is_good, said
    assert trained(run).resumed_from_step >= 500
    assert "chief-0: exit code 137" in said


@pytest.mark.parametrize(
    ("kind", "controlled", "strategy"),
    [
        ("tfjob", "TFJob", "multi_worker"),
        pytest.param(
            "mpijob",
            "MPIJob",
            "mpi",
            marks=pytest.mark.skipif(
                shutil.which("mpirun") is None, reason="no mpirun: apt install openmpi-bin"
            ),
        ),
    ],
)
def test_kubeflows_kinds_really_train(
    kind: JobKind, controlled: str, strategy: str, kubeflow: TestCluster, scene: Scene
) -> None:
    run = scene.run_of(kind, **{**SHORT, "train.strategy": strategy, "train.workers": 2})
    with KubeflowStandIn(kubeflow, controlled, scene.root):
        end, said = scene.train(run, settings=SETTINGS.model_copy(update={"kind": kind}))
    assert end.is_good, said
    assert trained(run).last_step == 60
