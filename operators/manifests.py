"""Kubernetes objects, built from the runtime file and a job. Pure; in the API's own JSON form."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contract.schema.cluster import KubernetesConfig, PodConfig, VolumeConfig
from operators.job_spec import JobSpec, Replica, tf_config

Manifest = dict[str, Any]

CONTAINER = "main"
JOB, REPLICA, ROUND, ATTEMPT = "slipway/job", "slipway/replica", "slipway/round", "slipway/attempt"
TASK, GENERATION = "slipway/task", "slipway/generation"
MANAGED = {"app.kubernetes.io/managed-by": "slipway"}
_LABEL_CHARACTERS = 63
_KUEUE_LABEL = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class Inside:
    """What runs in a pod, and what the pod is called."""

    name: str
    command: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    host: tuple[str, str] | None = None  # host name and the headless Service it is found under


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


def pod(config: PodConfig, volumes: tuple[VolumeConfig, ...], inside: Inside) -> Manifest:
    """Return the pod that runs one command once; `config.template` is merged in under it."""
    labels = {**MANAGED, **inside.labels}
    if config.queue:
        labels[_KUEUE_LABEL] = config.queue
    spec: Manifest = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "containers": [_container(config, volumes, inside)],
        "volumes": [_volume(volume) for volume in volumes],
        **_placement(config),
    }
    if inside.host is not None:
        spec["hostname"], spec["subdomain"] = inside.host
    own = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": inside.name, "labels": labels},
        "spec": spec,
    }
    return merged(_with_named_container(config.template), own)


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


def owned(body: Manifest, owner: Manifest) -> Manifest:
    """Return an object that the cluster removes together with its owner."""
    metadata = owner["metadata"]
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }
    return {**body, "metadata": {**body["metadata"], "ownerReferences": [reference]}}


def merged(under: Manifest, over: Manifest) -> Manifest:
    """Return both: `over` wins; lists of named things are joined by name, other lists one after
    the other."""
    result = dict(under)
    for key, value in over.items():
        old = under.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            result[key] = merged(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            result[key] = _joined(old, value)
        else:
            result[key] = value
    return result


def _joined(under: list[Any], over: list[Any]) -> list[Any]:
    if not all(isinstance(item, dict) and "name" in item for item in [*under, *over]):
        return [*under, *over]
    by_name = {item["name"]: item for item in under}
    for item in over:
        by_name[item["name"]] = merged(by_name.get(item["name"], {}), item)
    return list(by_name.values())


def _with_named_container(template: Manifest) -> Manifest:
    """The first container of a template without a name is ours."""
    containers = template.get("spec", {}).get("containers")
    if not containers or "name" in containers[0]:
        return template
    named = [{"name": CONTAINER, **containers[0]}, *containers[1:]]
    return {**template, "spec": {**template["spec"], "containers": named}}


def _container(config: PodConfig, volumes: tuple[VolumeConfig, ...], inside: Inside) -> Manifest:
    environment = {**config.environment, **inside.environment}
    return {
        "name": CONTAINER,
        "image": config.image,
        "imagePullPolicy": config.image_pull_policy,
        "command": list(inside.command),
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": _resources(config),
        "volumeMounts": [
            {"name": v.name, "mountPath": v.mount_path}
            | ({"readOnly": True} if v.is_read_only else {})
            for v in volumes
        ],
    }


def _resources(config: PodConfig) -> Manifest:
    limits = {"memory": config.memory_limit or config.memory}
    if config.cpu_limit:
        limits["cpu"] = config.cpu_limit
    if config.gpus:
        limits[config.gpu_resource] = str(config.gpus)  # requests of it follow its limits
    return {"requests": {"cpu": config.cpu, "memory": config.memory}, "limits": limits}


def _placement(config: PodConfig) -> Manifest:
    placement: Manifest = {
        "nodeSelector": config.node_selector,
        "tolerations": [
            {key: value for key, value in t.model_dump().items() if value}
            for t in config.tolerations
        ],
        "priorityClassName": config.priority_class,
        "serviceAccountName": config.service_account,
        "imagePullSecrets": [{"name": name} for name in config.image_pull_secrets],
    }
    return {key: value for key, value in placement.items() if value}


def _volume(volume: VolumeConfig) -> Manifest:
    if volume.claim:
        return {"name": volume.name, "persistentVolumeClaim": {"claimName": volume.claim}}
    return {"name": volume.name, "hostPath": {"path": volume.host_path}}


def _pod_tf_config(job: JobSpec, replica: Replica, namespace: str) -> str:
    return tf_config(job, replica, lambda r: f"{r}.{job.name}.{namespace}.svc:{job.settings.port}")
