"""One watch of a namespace for all who wait in it, with a connection of its own.

The triggerer waits for many pods in one event loop. Each of them wants the events of its own pods,
and the API server would send each all events of the namespace.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from contract.clients.cluster import Cluster
from contract.errors import SlipwayError
from contract.schema.cluster import ClusterConfig
from launching.cluster.watching import Watch


@dataclass
class SharedWatch:
    """A watch that runs for as long as somebody follows it."""

    watch: Watch
    task: "asyncio.Task[None]"
    followers: int = 0

    async def until_refused(self) -> None:
        """Wait, through any silence.

        Raises:
            ForbiddenError: If the account may not watch.
        """
        await asyncio.shield(self.task)


_open: dict[tuple[object, ...], SharedWatch] = {}


@contextlib.asynccontextmanager
async def shared_watch(
    settings: ClusterConfig, resource: str, fields: Mapping[str, str]
) -> AsyncIterator[SharedWatch]:
    """Yield the one watch of this event loop for a namespace's objects of a kind."""
    loop = id(asyncio.get_running_loop())
    key = (loop, settings.model_dump_json(), resource, frozenset(fields.items()))
    shared = _open.get(key)
    if shared is None or shared.task.done():
        cluster = Cluster(settings)
        watch = Watch(cluster, {}, resource, fields)
        shared = _open[key] = SharedWatch(watch, asyncio.create_task(_run(cluster, watch)))
    shared.followers += 1
    try:
        yield shared
    finally:
        shared.followers -= 1
        if not shared.followers:
            if _open.get(key) is shared:
                del _open[key]
            shared.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, SlipwayError):
                await shared.task


async def _run(cluster: Cluster, watch: Watch) -> None:
    async with cluster:
        await watch.run()
