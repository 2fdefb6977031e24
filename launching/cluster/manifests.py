"""The Kubernetes objects of a training job. Pure; in the API's own JSON form."""

import hashlib
import re

from contract.pod_templates import Manifest
from contract.pods import MANAGED, Inside, pod
from contract.schema.cluster import KubernetesConfig
from launching.job_spec import JobSpec, Replica, tf_config

JOB, REPLICA, ROUND, ATTEMPT = "slipway/job", "slipway/replica", "slipway/round", "slipway/attempt"
TASK, GENERATION = "slipway/task", "slipway/generation"
_LABEL_CHARACTERS = 63


def label_value(text: str) -> str:
    """Return text as a label's value; what had to be changed or cut gets a digest."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", text)[:_LABEL_CHARACTERS].strip("-._")
    if safe == text:
        return safe
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{safe[: _LABEL_CHARACTERS - 9].strip('-._')}-{digest}".lstrip("-")


def task_labels(dag_id: str, run_id: str, task_id: str) -> dict[str, str]:
    """Return the labels by which the objects of a task are found."""
    task = hashlib.sha256("\0".join((dag_id, run_id, task_id)).encode()).hexdigest()[:16]
    named = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id}
    return {**MANAGED, TASK: task, **{key: label_value(text) for key, text in named.items()}}


def replica_pod(
    job: JobSpec, kubernetes: KubernetesConfig, replica: Replica, round_: int, namespace: str
) -> Manifest:
    """Return the pod of one replica: its round in its name, its place in its host name.

    So a second creation of the same round is a conflict, and a replacement is found where the lost
    one was.
    """
    inside = Inside(
        name=f"{job.name}-{replica}-{round_}",
        command=job.command,
        labels={**job.labels, JOB: job.name, REPLICA: str(replica), ROUND: str(round_)},
        environment={} if job.is_alone else {"TF_CONFIG": _pod_tf_config(job, replica, namespace)},
        host=(str(replica), job.name),
        storage=job.storage,
    )
    made = pod(kubernetes.pod_of(job.step, replica.role), kubernetes.volumes, inside)
    made["spec"]["terminationGracePeriodSeconds"] = job.settings.grace_seconds
    return made


def headless_service(job: JobSpec) -> Manifest:
    """Return the job's Service: its replicas' DNS names, and the owner of its pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": job.name, "labels": {**MANAGED, **job.labels, JOB: job.name}},
        "spec": {
            "clusterIP": "None",
            "selector": {JOB: job.name},
            "publishNotReadyAddresses": True,  # roles look for each other before they are ready
            "ports": [{"name": "grpc", "port": job.settings.port}],
        },
    }


def _pod_tf_config(job: JobSpec, replica: Replica, namespace: str) -> str:
    return tf_config(job, replica, lambda r: f"{r}.{job.name}.{namespace}.svc:{job.settings.port}")
