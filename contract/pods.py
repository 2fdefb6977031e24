"""What a pod looks like that a runtime file describes: pure, in the Kubernetes API's JSON form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from contract.schema.cluster import PodConfig, VolumeConfig

Manifest = dict[str, Any]

CONTAINER = "main"
MANAGED = {"app.kubernetes.io/managed-by": "slipway"}
_KUEUE_LABEL = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class Inside:
    """What runs in a pod, and what the pod is called."""

    name: str
    command: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    host: tuple[str, str] | None = None  # host name and the headless Service it is found under


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
