"""Removes jobs that no driver renews any more: the remains of a crash."""

import contextlib
import logging
from datetime import UTC, datetime, timedelta

from contract.clients.cluster import Cluster, Manifest
from contract.clients.cluster_errors import ForbiddenError
from contract.errors import ConflictError, NotFoundError
from contract.pods import MANAGED
from launching.cluster.claim import SEEN
from launching.cluster.kinds import RESOURCES
from launching.cluster.manifests import JOB
from launching.cluster.pod_status import ended
from launching.cluster.removal import delete_exactly

log = logging.getLogger(__name__)


async def reap(cluster: Cluster, ttl_seconds: int) -> list[str]:
    """Remove jobs whose driver was last seen too long ago, and component pods that ended so.

    Jobs of every kind: the driver that left one may have used another kind than this one.

    Returns:
        The names of what was removed.
    """
    oldest = datetime.now(UTC) - timedelta(seconds=ttl_seconds)
    left = [
        (resource, item)
        for resource in RESOURCES.values()
        for item in await _listed(cluster, resource)
        if _was_seen_before(item, oldest)
    ]
    left += [("pods", pod) for pod in await _listed(cluster, "pods") if _ended_before(pod, oldest)]
    removed = []
    for resource, item in left:
        with contextlib.suppress(ConflictError):  # somebody has adopted it meanwhile
            await delete_exactly(cluster, resource, item, propagationPolicy="Background")
            removed.append(item["metadata"]["name"])
    for name in removed:
        log.warning("%s: not renewed for %d s: removed", name, ttl_seconds)
    return removed


async def _listed(cluster: Cluster, resource: str) -> list[Manifest]:
    """Return our objects of a kind; none of one that is not installed, or not for this account."""
    try:
        return list((await cluster.list(resource, MANAGED))["items"])
    except (NotFoundError, ForbiddenError):
        return []


def _was_seen_before(job: Manifest, oldest: datetime) -> bool:
    seen = job["metadata"].get("annotations", {}).get(SEEN)
    return bool(seen) and datetime.fromisoformat(seen) < oldest


def _ended_before(pod: Manifest, oldest: datetime) -> bool:
    """Tell whether it is a component's pod that ended so long ago; a job's go with the job."""
    is_component = JOB not in pod["metadata"].get("labels", {})
    return is_component and ended(pod) is not None and _finished(pod) < oldest


def _finished(pod: Manifest) -> datetime:
    """Return when a pod's last container ended, or when the pod was created."""
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    times = [s.get("state", {}).get("terminated", {}).get("finishedAt") for s in statuses]
    latest = max(filter(None, times), default=pod["metadata"]["creationTimestamp"])
    return datetime.fromisoformat(latest.replace("Z", "+00:00"))
