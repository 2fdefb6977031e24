"""The real trainer in pods: several strategies, and the death of each role."""

import shutil
import signal

import pytest
from clusters import TestCluster, wait_for
from kubeflow_stand_in import KubeflowStandIn
from training_scene import SETTINGS, TrainingScene, trained, training_scene

from contract.schema.cluster import JobKind
from launching.job_spec import JobSpec

SHORT = {"train.steps": 20, "train.checkpoint_every_steps": 20}
# A step takes milliseconds, and to kill a pod's process, on a busy machine, some seconds.
LONG = {"train.steps": 1500, "train.checkpoint_every_steps": 100}


@pytest.fixture(scope="module")
def scene(
    clusters: dict[str, TestCluster], tmp_path_factory: pytest.TempPathFactory
) -> TrainingScene:
    return training_scene(clusters, tmp_path_factory.mktemp("training-in-pods"))


def test_workers_train_in_step_and_go_on_after_one_was_killed(scene: TrainingScene) -> None:
    run = scene.run_of("mw", **{**LONG, "train.strategy": "multi_worker", "train.workers": 2})

    def kill_worker(job: JobSpec) -> None:
        wait_for(lambda: run.checkpoint_manifest(100).exists(), 600)
        scene.clusters["train"].kill_container(f"{job.name}-worker-0-0")

    end, said = scene.train(run, kill_worker)
    assert end.is_good, said
    assert trained(run).last_step == 1500
    assert trained(run).resumed_from_step >= 100, "the kill came too late to disturb"
    assert "worker-0: exit code 137" in said


def test_parameter_servers_train_and_go_on_after_one_was_killed(scene: TrainingScene) -> None:
    strategy = {"train.strategy": "parameter_server", "train.workers": 1}
    run = scene.run_of("ps", **{**LONG, **strategy})

    def kill_server(job: JobSpec) -> None:
        wait_for(lambda: run.checkpoint_manifest(100).exists(), 600)
        scene.clusters["train"].kill_container(f"{job.name}-ps-0-0")

    end, said = scene.train(run, kill_server)
    assert end.is_good, said
    assert trained(run).last_step == 1500
    assert "ps-0: exit code 137" in said


def test_a_worker_that_hangs_is_replaced_alone(scene: TrainingScene) -> None:
    strategy = {"train.strategy": "parameter_server", "train.workers": 2}
    long = {"train.steps": 6000, "train.checkpoint_every_steps": 500}
    patience = {"train.step_timeout_seconds": 20}  # who is silent for half of it hangs
    run = scene.run_of("hang", **{**long, **strategy, **patience})

    def stop_worker(job: JobSpec) -> None:
        wait_for(lambda: run.checkpoint_manifest(500).exists(), 600)
        scene.clusters["train"].kill_container(f"{job.name}-worker-1-0", signal.SIGSTOP)

    end, said = scene.train(run, stop_worker)
    assert end.is_good, said
    assert trained(run).last_step == 6000
    assert "worker-1 hangs: not heard of for" in said
    assert "worker-1: vanished (hung: not heard of for" in said
    assert "; starting worker-1 again" in said
    assert "training continues without it" in said
    assert "started: worker-1\n" in said, "alone"


def test_a_killed_chief_goes_on_from_its_last_checkpoint(scene: TrainingScene) -> None:
    long = {"train.steps": 8000, "train.checkpoint_every_steps": 500}  # alone it is faster
    run = scene.run_of("chief", **long)

    def kill_chief(job: JobSpec) -> None:
        wait_for(lambda: run.checkpoint_manifest(500).exists(), 600)
        scene.clusters["train"].kill_container(f"{job.name}-chief-0-0")

    end, said = scene.train(run, kill_chief)
    assert end.is_good, said
    assert trained(run).resumed_from_step >= 500, "the kill came too late to disturb"
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
    kind: JobKind, controlled: str, strategy: str, kubeflow: TestCluster, scene: TrainingScene
) -> None:
    run = scene.run_of(kind, **{**SHORT, "train.strategy": strategy, "train.workers": 2})
    with KubeflowStandIn(kubeflow, controlled, scene.writable):
        end, said = scene.train(run, settings=SETTINGS.model_copy(update={"kind": kind}))
    assert end.is_good, said
    assert trained(run).last_step == 20
