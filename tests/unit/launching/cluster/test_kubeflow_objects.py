"""Kubeflow's objects, by hand; a real API server judges them in tests/cluster."""

from typing import Any

import pytest

from contract.command import StepCommand
from contract.errors import ConfigError
from contract.schema.cluster import ClusterConfig, JobConfig, KubernetesConfig, PodConfig
from contract.schema.training import TrainConfig
from launching.cluster.kinds import check_kind
from launching.cluster.kubeflow import kubeflow_job
from launching.job_spec import JobSpec, training_job

KUBERNETES = KubernetesConfig(
    clusters={"one": ClusterConfig(context="one")},
    default_cluster="one",
    pod=PodConfig(image="slipway:1"),
    roles={"worker": PodConfig(gpus=1)},
)


def job(kind: Any, **train: Any) -> JobSpec:
    settings = JobConfig(kind=kind, max_restarts=4, ttl_seconds=60, grace_seconds=9)
    command = StepCommand("train", "digits", "r1", "/data")
    return training_job("digits-train", command, TrainConfig(**train), settings, "python")


def container(spec: dict[str, Any]) -> dict[str, Any]:
    (found,) = spec["template"]["spec"]["containers"]
    return dict(found)


def test_a_tfjob_has_the_roles_under_kubeflows_names_and_its_container_too() -> None:
    strategy = {"strategy": "parameter_server", "workers": 3, "parameter_servers": 2}
    made = kubeflow_job(job("tfjob", **strategy), KUBERNETES)
    assert (made["apiVersion"], made["kind"]) == ("kubeflow.org/v1", "TFJob")
    assert made["spec"]["runPolicy"] == {
        "cleanPodPolicy": "All",
        "ttlSecondsAfterFinished": 60,
        "backoffLimit": 4,
    }
    replicas = made["spec"]["tfReplicaSpecs"]
    assert {name: spec["replicas"] for name, spec in replicas.items()} == {
        "Chief": 1,
        "Worker": 3,
        "PS": 2,
    }
    worker = container(replicas["Worker"])
    assert worker["name"] == "tensorflow"
    assert worker["ports"] == [{"name": "tfjob-port", "containerPort": 2222}]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in container(replicas["Chief"])["resources"]["limits"]
    assert replicas["Chief"]["template"]["spec"]["terminationGracePeriodSeconds"] == 9
    assert "restartPolicy" not in replicas["Chief"]["template"]["spec"]


def test_an_mpijobs_launcher_starts_the_ranks_that_its_workers_are() -> None:
    made = kubeflow_job(job("mpijob", strategy="mpi", workers=4), KUBERNETES)
    assert (made["apiVersion"], made["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")
    assert made["spec"]["mpiImplementation"] == "OpenMPI"
    replicas = made["spec"]["mpiReplicaSpecs"]
    assert {name: spec["replicas"] for name, spec in replicas.items()} == {
        "Launcher": 1,
        "Worker": 4,
    }
    command = container(replicas["Launcher"])["command"]
    assert command[:3] == ["mpirun", "-n", "4"]
    assert command[-9:-6] == ["python", "-m", "components.train"]
    assert container(replicas["Worker"])["command"] == ["/usr/sbin/sshd", "-De"]


def test_a_pytorchjobs_chief_is_its_master_and_may_run_a_command_of_the_users_own() -> None:
    settings = JobConfig(kind="pytorchjob", command=("python", "-m", "ours.train"))
    command = StepCommand("train", "digits", "r1", "/data")
    train = TrainConfig(strategy="multi_worker", workers=3)
    one = training_job("digits-train", command, train, settings, "python")
    own = {"train": PodConfig(image="ours:1")}
    made = kubeflow_job(one, KUBERNETES.model_copy(update={"steps": own}))
    assert (made["apiVersion"], made["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    replicas = made["spec"]["pytorchReplicaSpecs"]
    assert {name: spec["replicas"] for name, spec in replicas.items()} == {"Master": 1, "Worker": 2}
    for spec in replicas.values():
        assert container(spec)["name"] == "pytorch"
        assert container(spec)["image"] == "ours:1"
        assert container(spec)["command"][:5] == [
            "python",
            "-m",
            "ours.train",
            "--pipeline",
            "digits",
        ]


@pytest.mark.parametrize(
    ("kind", "strategy", "message"),
    [
        (
            "pods",
            "mpi",
            "mpi on Kubernetes needs job.kind 'mpijob' in the runtime file, found 'pods",
        ),
        ("tfjob", "mpi", "needs job.kind 'mpijob'"),
        ("mpijob", "multi_worker", "mpijob: expected train.strategy mpi"),
        ("pytorchjob", "parameter_server", "pytorchjob: has no role ps; use 'tfjob'"),
    ],
)
def test_a_kind_that_cannot_carry_the_strategy_is_refused(
    kind: str, strategy: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_kind(job(kind, strategy=strategy))
