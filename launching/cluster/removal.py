"""Removing pods for certain, and soon."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from contract.clients.cluster import Cluster, Manifest
from contract.errors import ConflictError
from launching.cluster.pod_status import ended, has_node, has_started

_LOOK_SECONDS = 0.5
_MARGIN_SECONDS = 30.0  # beyond the grace: for a node that is slow, or gone


async def remove_pods(
    cluster: Cluster,
    labels: Mapping[str, str],
    grace_seconds: int,
    is_meant: Callable[[Manifest], bool],
) -> None:
    """Delete those pods with these labels that are meant, and wait until they are gone.

    Each is deleted on condition that it is as it was looked at: one that somebody adopted
    meanwhile, or another of its name, is looked at again.

    A pod whose container has ended or never started is taken out of the API at once: a kubelet
    keeps it there for another ten seconds or more (seen with 1.20), though it holds nothing.
    """
    until = time.monotonic() + grace_seconds + _MARGIN_SECONDS
    asked: set[str] = set()
    while True:
        listed = await cluster.list("pods", labels)
        left = [pod for pod in listed["items"] if is_meant(pod) and not _is_kept(pod)]
        if not left or time.monotonic() > until:
            return
        for pod in left:
            with contextlib.suppress(ConflictError):
                if ended(pod) is not None or not has_started(pod):
                    await delete_exactly(cluster, "pods", pod, gracePeriodSeconds=0)
                elif pod["metadata"]["uid"] not in asked:
                    await delete_exactly(cluster, "pods", pod, gracePeriodSeconds=grace_seconds)
                    asked.add(pod["metadata"]["uid"])
        await asyncio.sleep(_LOOK_SECONDS)


def _is_kept(pod: Manifest) -> bool:
    """Tell whether a deleted pod holds nothing, but a finalizer such as Kueue's keeps its object.

    Kueue's goes when the pod is replaced, or when its group ends: nobody has to wait for it.
    """
    metadata = pod["metadata"]
    is_deleted = metadata.get("deletionTimestamp") and metadata.get("finalizers")
    return bool(is_deleted) and (ended(pod) is not None or not has_node(pod))


async def delete_exactly(cluster: Cluster, resource: str, found: Manifest, **options: Any) -> None:
    """Delete what was looked at, if it is as it was then.

    Raises:
        ConflictError: If it has changed since, or there is another of its name.
    """
    metadata = found["metadata"]
    condition = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    await cluster.delete(resource, metadata["name"], {"preconditions": condition, **options})
