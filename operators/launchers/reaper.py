"""Removes what nobody looks after any more: the remains of a crash that nobody came back from."""

import logging
from datetime import UTC, datetime, timedelta

from contract.pods import MANAGED
from operators.launchers.claim import SEEN
from operators.launchers.cluster import Cluster, Manifest
from operators.manifests import JOB
from operators.pod_status import ended

log = logging.getLogger(__name__)


async def reap(cluster: Cluster, ttl_seconds: int) -> list[str]:
    """Remove jobs whose driver was last seen too long ago, and component pods that ended so.

    Returns:
        The names of what was removed.
    """
    oldest = datetime.now(UTC) - timedelta(seconds=ttl_seconds)
    removed = []
    for service in (await cluster.list("services", MANAGED))["items"]:
        seen = service["metadata"].get("annotations", {}).get(SEEN)
        if seen and datetime.fromisoformat(seen) < oldest:
            removed.append(service["metadata"]["name"])
            await _delete(cluster, "services", service)
    for pod in (await cluster.list("pods", MANAGED))["items"]:
        is_component = JOB not in pod["metadata"].get("labels", {})
        if is_component and ended(pod) is not None and _finished(pod) < oldest:
            removed.append(pod["metadata"]["name"])
            await _delete(cluster, "pods", pod)
    for name in removed:
        log.warning("%s: nobody has looked after it for %d s: removed", name, ttl_seconds)
    return removed


async def _delete(cluster: Cluster, resource: str, found: Manifest) -> None:
    """Delete exactly what was looked at: whoever adopted it meanwhile has changed its version."""
    metadata = found["metadata"]
    condition = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    options = {"preconditions": condition, "propagationPolicy": "Background"}
    await cluster.delete(resource, metadata["name"], options)


def _finished(pod: Manifest) -> datetime:
    """Return when a pod's last container ended, or when the pod was created."""
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    times = [s.get("state", {}).get("terminated", {}).get("finishedAt") for s in statuses]
    latest = max(filter(None, times), default=pod["metadata"]["creationTimestamp"])
    return datetime.fromisoformat(latest.replace("Z", "+00:00"))
