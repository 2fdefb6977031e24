"""What a pod's status says, in words. Pure."""

from typing import Any

from contract.pods import CONTAINER

Manifest = dict[str, Any]

# Of these a pod does not recover by waiting: somebody has to change the config or the image.
_HOPELESS = frozenset(
    {"ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError"}
)


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
        for condition in pod.get("status", {}).get("conditions", ()):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return str(condition.get("message") or condition.get("reason"))
        return "a node"
    waiting = _container(pod).get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", "its container"), waiting.get("message", "")
    return f"{reason}: {message}" if message else reason


def is_hopeless(pod: Manifest) -> bool:
    """Tell whether waiting cannot help: a wrong image name, a missing secret."""
    return _container(pod).get("state", {}).get("waiting", {}).get("reason") in _HOPELESS


def _container(pod: Manifest) -> Manifest:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return next((status for status in statuses if status["name"] == CONTAINER), {})
