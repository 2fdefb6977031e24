"""What a pod looks like that a runtime file describes: pure, in the Kubernetes API's JSON form."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from contract.pod_storage import FolderAccess, mounts
from contract.pod_templates import CONTAINER, Manifest, merged, with_named_container
from contract.schema.cluster import PodConfig, VolumeConfig

MANAGED = {"app.kubernetes.io/managed-by": "slipway"}
QUEUE = "kueue.x-k8s.io/queue-name"
# The profile `restricted` of Kubernetes' pod security standards; a template may say otherwise.
_RESTRICTED_POD: Manifest = {
    "spec": {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    }
}
_RESTRICTED_CONTAINER: Manifest = {
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
}


@dataclass(frozen=True)
class Inside:
    """What runs in a pod, and what the pod is called.

    Attributes:
        host: Host name, and the headless Service it is found under.
        storage: Folders of the volumes that are mounted by themselves; see `pod_storage.mounts`.
        is_narrow: Whether it sees nothing else of these volumes.
    """

    name: str
    command: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    host: tuple[str, str] | None = None
    storage: tuple[FolderAccess, ...] = ()
    is_narrow: bool = False


def pod(config: PodConfig, volumes: tuple[VolumeConfig, ...], inside: Inside) -> Manifest:
    """Return the pod that runs one command once; `config.template` is merged in under it.

    It is of the profile `restricted`, except for what the template says.
    """
    labels = {**MANAGED, **inside.labels}
    if config.queue:
        labels[QUEUE] = config.queue
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
    given = merged(_RESTRICTED_POD, with_named_container(config.template))
    made = merged(given, own)
    for kind in ("containers", "initContainers"):
        if kind in made["spec"]:
            containers = made["spec"][kind]
            made["spec"][kind] = [merged(_RESTRICTED_CONTAINER, one) for one in containers]
    return made


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


def _container(config: PodConfig, volumes: tuple[VolumeConfig, ...], inside: Inside) -> Manifest:
    environment = {**config.environment, **inside.environment}
    return {
        "name": CONTAINER,
        "image": config.image,
        "imagePullPolicy": config.image_pull_policy,
        "command": list(inside.command),
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        **_secrets(config),
        "resources": _resources(config),
        "volumeMounts": mounts(volumes, inside.storage, inside.is_narrow),
    }


def _secrets(config: PodConfig) -> Manifest:
    names = config.environment_secrets
    return (
        {"envFrom": [{"secretRef": {"name": n, "optional": True}} for n in names]} if names else {}
    )


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
