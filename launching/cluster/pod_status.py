"""A pod's status as a message. Pure."""

from typing import Any

from contract.pod_templates import CONTAINER
from launching.cluster.queueing import gate_in_words, is_admitted

Manifest = dict[str, Any]

A_NODE = "a node"  # what a pod waits for that the scheduler has not looked at

# Kubeflow's operators look for containers with these names.
_OURS = frozenset({CONTAINER, "tensorflow", "pytorch", "mpi"})

# Of these a pod does not recover by waiting: the config or the image has to change.
_HOPELESS = frozenset({"ErrImageNeverPull", "InvalidImageName"})
# A registry may be back soon, or never have had the image.
_FAILED_PULLS = frozenset({"ErrImagePull", "ImagePullBackOff"})
# The kubelet tries again and may succeed: of two pods that make one subPath folder at the same
# moment one fails, and an operator writes a Secret some seconds after the pod. Or it never does.
_FAILED_CREATIONS = frozenset({"CreateContainerConfigError", "CreateContainerError"})


def ended(pod: Manifest) -> tuple[int | None, str] | None:
    """Return exit code and reason of a pod that has ended, or None while it has not.

    An evicted pod, or one whose node was lost, may have no exit code.
    """
    status = pod.get("status", {})
    if status.get("phase") not in ("Succeeded", "Failed"):
        return None
    terminated = _container(pod).get("state", {}).get("terminated")
    reason = status.get("reason") or (terminated or {}).get("reason", "")
    if status["phase"] == "Succeeded":
        return 0, ""
    message = status.get("message", "")
    words = ": ".join(word for word in (reason, message) if word and word != "Error")
    return (terminated or {}).get("exitCode"), words


def has_node(pod: Manifest) -> bool:
    """Tell whether the scheduler has given the pod a node."""
    return bool(pod.get("spec", {}).get("nodeName"))


def has_started(pod: Manifest) -> bool:
    """Tell whether the pod's container runs or has run."""
    state = _container(pod).get("state", {})
    return "running" in state or "terminated" in state or ended(pod) is not None


def waits_for(pod: Manifest) -> str:
    """Say what a pod that has not started waits for; empty for one that has."""
    if has_started(pod):
        return ""
    if not has_node(pod):
        if not is_admitted(pod):
            return gate_in_words(pod)
        for condition in pod.get("status", {}).get("conditions", ()):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return str(condition.get("message") or condition.get("reason"))
        return A_NODE
    waiting = _waiting(pod)
    reason, message = waiting.get("reason", "its container"), waiting.get("message", "")
    return f"{reason}: {message}" if message else reason


def is_unschedulable(pod: Manifest) -> bool:
    """Tell whether the scheduler has looked at the pod and found no node."""
    if not is_admitted(pod):
        return False
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "PodScheduled" and c["status"] == "False" for c in conditions)


def is_hopeless(pod: Manifest) -> bool:
    """Tell whether waiting cannot help: a wrong image name, an image that nobody may pull."""
    return _waiting(pod).get("reason") in _HOPELESS


def has_no_image(pod: Manifest) -> bool:
    """Tell whether the pod's image could not be pulled, so far."""
    return _waiting(pod).get("reason") in _FAILED_PULLS


def is_not_created(pod: Manifest) -> bool:
    """Tell whether the kubelet could not create the pod's container, so far."""
    return _waiting(pod).get("reason") in _FAILED_CREATIONS


def image(pod: Manifest) -> str:
    """Return the image of the pod's container."""
    containers = pod["spec"]["containers"]
    return str(next((c["image"] for c in containers if c["name"] in _OURS), "none"))


def _waiting(pod: Manifest) -> Manifest:
    return dict(_container(pod).get("state", {}).get("waiting") or {})


def _container(pod: Manifest) -> Manifest:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return next((status for status in statuses if status["name"] in _OURS), {})
