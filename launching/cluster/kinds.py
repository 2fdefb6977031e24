"""The kinds of job a cluster can run, by name: which object stands for one, and who drives it."""

from typing import Protocol

from contract.clients.cluster import Cluster
from contract.errors import ConfigError
from contract.schema.cluster import JobKind, KubernetesConfig
from launching.cluster.claim import Claim
from launching.cluster.kubeflow import KubeflowJob, roles_unknown_to
from launching.cluster.pod_logs import PodLogs
from launching.cluster.pods import SERVICES, PodJob
from launching.cluster.waiting import Say
from launching.job_spec import JobSpec
from launching.restarts import JobEnd

RESOURCES: dict[JobKind, str] = {
    "pods": SERVICES,
    "tfjob": "kubeflow.org/v1/tfjobs",
    "mpijob": "kubeflow.org/v2beta1/mpijobs",
    "pytorchjob": "kubeflow.org/v1/pytorchjobs",
}


class JobDriver(Protocol):
    """Starts, follows and removes one job."""

    logs: PodLogs

    async def run(self) -> JobEnd: ...

    async def kill(self) -> bool: ...


def check_kind(job: JobSpec) -> None:
    """Raise ConfigError where a strategy cannot run as this kind of job."""
    kind = job.settings.kind
    if job.is_mpi and kind != "mpijob":
        raise ConfigError(
            [
                f"train.strategy: mpi on Kubernetes needs job.kind 'mpijob' in the runtime file, "
                f"found '{kind}': its operator gives the pods their ssh keys and host file"
            ]
        )
    if kind == "mpijob" and not job.is_mpi:
        raise ConfigError(["job.kind: mpijob: expected train.strategy mpi"])
    if unknown := roles_unknown_to(kind, job.replicas):
        raise ConfigError([f"job.kind: {kind}: has no role {', '.join(unknown)}; use 'tfjob'"])


def open_job(
    cluster: Cluster, job: JobSpec, kubernetes: KubernetesConfig, claim: Claim, say: Say
) -> JobDriver:
    """Return the driver of a job of its kind."""
    driver = PodJob if job.settings.kind == "pods" else KubeflowJob
    return driver(cluster, job, kubernetes, claim, say)
