"""Removing pods for certain, and soon."""

import asyncio
import time
from collections.abc import Collection, Mapping

from operators.launchers.cluster import Cluster
from operators.pod_status import ended, has_started

_LOOK_SECONDS = 0.5
_MARGIN_SECONDS = 30.0  # beyond the grace: for a node that is slow, or gone


async def remove_pods(
    cluster: Cluster, labels: Mapping[str, str], grace_seconds: int, names: Collection[str] = ()
) -> None:
    """Delete pods with these labels (of them only `names`, if given) and wait until they are gone.

    A pod whose container has ended or never started is taken out of the API at once: a kubelet
    keeps it there for another ten seconds or more (seen with 1.20), though it holds nothing.
    """
    until = time.monotonic() + grace_seconds + _MARGIN_SECONDS
    asked: set[str] = set()
    while True:
        listed = await cluster.list("pods", labels)
        pods = {pod["metadata"]["name"]: pod for pod in listed["items"]}
        left = {name: pod for name, pod in pods.items() if not names or name in names}
        if not left or time.monotonic() > until:
            return
        for name, pod in left.items():
            if ended(pod) is not None or not has_started(pod):
                await cluster.delete("pods", name, {"gracePeriodSeconds": 0})
            elif name not in asked:
                asked.add(name)
                await cluster.delete("pods", name, {"gracePeriodSeconds": grace_seconds})
        await asyncio.sleep(_LOOK_SECONDS)
