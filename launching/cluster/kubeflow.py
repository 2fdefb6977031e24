"""Training jobs that an operator in the cluster runs: Kubeflow's TFJob, MPIJob and PyTorchJob.

We create the object, follow its status and the logs of its pods, and remove it. Starting together,
restarting and cleaning up are that operator's.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from contract.clients.cluster import Cluster, Manifest
from contract.errors import EXIT_DONE, EXIT_UNEXPECTED, EXIT_USER_ERROR
from contract.pod_templates import CONTAINER, merged
from contract.pods import MANAGED, QUEUE, Inside, pod
from contract.schema.cluster import JobKind, KubernetesConfig, Role
from launching.cluster.claim import Claim
from launching.cluster.job_driver import JobDriver
from launching.cluster.manifests import JOB
from launching.cluster.pod_logs import replica_name
from launching.cluster.pod_status import ended, has_started, waits_for
from launching.cluster.queueing import is_suspended, queue_of
from launching.cluster.waiting import Say
from launching.cluster.watching import Watch
from launching.job_spec import JobSpec
from launching.restarts import JobEnd

_LOOK_SECONDS = 5.0
_SETTLE_SECONDS = 1.5
_SUSPENDED = "suspended: waits for admission by its queue, or for somebody to resume it"


@dataclass(frozen=True)
class _Kind:
    """What sets one kind apart; the names are those of its definition (CRD)."""

    version: str
    name: str
    roles: Mapping[Role, str]  # our role to the kind's
    replicas: str  # the spec's key
    container: str  # the container that the operator looks at


_KINDS: dict[JobKind, _Kind] = {
    "tfjob": _Kind(
        "kubeflow.org/v1",
        "TFJob",
        {"chief": "Chief", "worker": "Worker", "ps": "PS", "evaluator": "Evaluator"},
        "tfReplicaSpecs",
        "tensorflow",
    ),
    "pytorchjob": _Kind(
        "kubeflow.org/v1",
        "PyTorchJob",
        {"chief": "Master", "worker": "Worker"},
        "pytorchReplicaSpecs",
        "pytorch",
    ),
    "mpijob": _Kind(
        "kubeflow.org/v2beta1",
        "MPIJob",
        {"chief": "Launcher", "worker": "Worker"},
        "mpiReplicaSpecs",
        "mpi",
    ),
}


def roles_unknown_to(kind: JobKind, roles: Iterable[Role]) -> list[Role]:
    """Return which of the roles a kind of job has no place for."""
    return [role for role in roles if kind in _KINDS and role not in _KINDS[kind].roles]


def kubeflow_job(job: JobSpec, kubernetes: KubernetesConfig) -> Manifest:
    """Return the object of a job; Kubeflow's operator sets TF_CONFIG, or the MPI host file."""
    kind = _KINDS[job.settings.kind]
    policy = {
        "cleanPodPolicy": "All",
        "ttlSecondsAfterFinished": job.settings.ttl_seconds,
        "backoffLimit": job.settings.max_restarts,
    }
    spec: Manifest = {"runPolicy": policy, kind.replicas: _replicas(job, kubernetes, kind)}
    if job.is_mpi:
        spec |= {"slotsPerWorker": 1, "mpiImplementation": "OpenMPI"}
    labels = {**MANAGED, **job.labels, JOB: job.name}
    if queue := queue_of(job, kubernetes):
        labels[QUEUE] = queue  # Kueue reads it there, and not of the pods
    return {
        "apiVersion": kind.version,
        "kind": kind.name,
        "metadata": {"name": job.name, "labels": labels},
        "spec": spec,
    }


def _replicas(job: JobSpec, kubernetes: KubernetesConfig, kind: _Kind) -> Manifest:
    counts = dict(job.replicas)
    commands = dict.fromkeys(counts, job.command)
    if job.is_mpi:  # the launcher is one more pod: it computes nothing and starts the ranks
        counts = {"chief": 1, "worker": job.replicas["worker"]}
        ranks = str(job.replicas["worker"])
        start = ("mpirun", "-n", ranks, "--allow-run-as-root", "--bind-to", "none", "--tag-output")
        commands = {"chief": (*start, *job.command), "worker": ("/usr/sbin/sshd", "-De")}
    return {
        kind.roles[role]: {
            "replicas": count,
            "restartPolicy": "Never" if job.is_mpi else "OnFailure",
            "template": _template(job, kubernetes, role, commands[role]),
        }
        for role, count in counts.items()
    }


def _template(
    job: JobSpec, kubernetes: KubernetesConfig, role: Role, command: tuple[str, ...]
) -> Manifest:
    labels = {**job.labels, JOB: job.name}
    inside = Inside(job.name, command, labels, storage=job.storage)
    made = pod(kubernetes.pod_of(job.step, role), kubernetes.volumes, inside)
    spec = {k: v for k, v in made["spec"].items() if k != "restartPolicy"}
    spec["terminationGracePeriodSeconds"] = job.settings.grace_seconds
    name = _KINDS[job.settings.kind].container
    spec["containers"] = [
        merged(c, {"name": name, "ports": [_port(job)]}) if c["name"] == CONTAINER else c
        for c in spec["containers"]
    ]
    own = {key: value for key, value in made["metadata"]["labels"].items() if key != QUEUE}
    return {"metadata": {"labels": own}, "spec": spec}


def _port(job: JobSpec) -> Manifest:
    name = f"{job.settings.kind}-port"
    return {"name": name, "containerPort": job.settings.port}


class KubeflowJob(JobDriver):
    """Follows one such object; `claim` holds it with this driver's fencing token."""

    def __init__(
        self, cluster: Cluster, job: JobSpec, kubernetes: KubernetesConfig, claim: Claim, say: Say
    ) -> None:
        super().__init__(cluster, job, kubernetes, claim, say)
        self.kind = job.settings.kind
        self._object = Watch(cluster, {JOB: job.name}, claim.resource)
        self._watches.append(self._object)
        self._said: set[tuple[str, str]] = set()
        self._has_run = False

    def manifest(self) -> Manifest:
        return kubeflow_job(self.job, self.kubernetes)

    # --- inside ---

    async def _drive(self, beating: "asyncio.Task[None]") -> JobEnd:
        end = await self._follow(beating)
        await self._last_lines()
        return end

    async def _follow(self, beating: "asyncio.Task[None]") -> JobEnd:
        deadline = time.monotonic() + self.job.settings.start_deadline_seconds
        queued = time.monotonic() + self.job.settings.queue_deadline_seconds
        missing_looks = 0
        while True:
            if beating.done():
                beating.result()  # overtaken: says so
            found = self._object.found.get(self.job.name)
            if found and is_suspended(found):
                self._tell_suspension()
                if time.monotonic() > queued:
                    return self._never_admitted()
                deadline = time.monotonic() + self.job.settings.start_deadline_seconds
            missing_looks = 0 if found else missing_looks + 1
            if missing_looks > 2:
                return JobEnd(EXIT_UNEXPECTED, f"{self.claim.resource} {self.job.name} was deleted")
            why = await self.waiting.look({replica_name(p): p for p in self._pods.found.values()})
            refused = JobEnd(EXIT_USER_ERROR, why) if why else None
            end = self._end_of(found or {}) or self._wrong_input() or refused
            end = end or self._late(deadline)
            for item in self._pods.found.values():
                if has_started(item):
                    self.logs.follow(item)
            if end is not None:
                return end
            await self._pods.changed(_LOOK_SECONDS / 5)

    def _end_of(self, found: Manifest) -> JobEnd | None:
        """Tell each new condition, and return the end if one of them is it."""
        for condition in found.get("status", {}).get("conditions") or ():
            if condition["status"] != "True":
                continue
            kind, why = condition["type"], condition.get("message") or condition.get("reason", "")
            text, since = f"{kind.lower()}: {why}", condition.get("lastTransitionTime", "")
            if (text, since) not in self._said:
                self._said.add((text, since))
                self.say(logging.WARNING if kind == "Restarting" else logging.INFO, text)
            self._has_run = self._has_run or kind == "Running"
            if kind == "Succeeded":
                return JobEnd(EXIT_DONE, text)
            if kind == "Failed":
                return JobEnd(EXIT_UNEXPECTED, text)
        return None

    def _never_admitted(self) -> JobEnd:
        seconds = self.job.settings.queue_deadline_seconds
        return JobEnd(EXIT_UNEXPECTED, f"not started within {seconds:g} s: {_SUSPENDED}")

    def _tell_suspension(self) -> None:
        text = _SUSPENDED
        if (text, "") not in self._said:
            self._said.add((text, ""))
            self.say(logging.INFO, text)

    def _wrong_input(self) -> JobEnd | None:
        """A restart cannot fix exit code 2; the operator would try nevertheless."""
        for item in self._pods.found.values():
            how = ended(item)
            if how is not None and how[0] == EXIT_USER_ERROR:
                return JobEnd(EXIT_USER_ERROR, f"{item['metadata']['name']}: exit code 2")
        return None

    def _late(self, deadline: float) -> JobEnd | None:
        if self._has_run or time.monotonic() < deadline:
            return None
        waiting = [
            f"{name} waits for {what}"
            for name, item in self._pods.found.items()
            if (what := waits_for(item))
        ]
        seconds = self.job.settings.start_deadline_seconds
        why = "; ".join(waiting) or "no pods; does the cluster run Kubeflow's operator?"
        return JobEnd(EXIT_UNEXPECTED, f"not started within {seconds:g} s: {why}")

    async def _last_lines(self) -> None:
        """Wait for what the pods still say: the operator may know of the end before we see it."""
        await asyncio.sleep(_SETTLE_SECONDS)
        for item in self._pods.found.values():
            if has_started(item):
                self.logs.follow(item)
        await self.logs.finish()
