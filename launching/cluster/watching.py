"""The objects of one job as they are now: one list, then a watch."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from contract.clients.cluster import Cluster, Manifest
from contract.clients.cluster_errors import ForbiddenError
from contract.errors import SlipwayError

log = logging.getLogger(__name__)

_LONGEST_WAIT_SECONDS = 15.0
T = TypeVar("T")


class Watch:
    """Keeps `found` up to date while `run` runs, through any silence of the API server."""

    def __init__(
        self,
        cluster: Cluster,
        labels: Mapping[str, str],
        resource: str = "pods",
        fields: Mapping[str, str] | None = None,
    ) -> None:
        self.found: dict[str, Manifest] = {}
        self._cluster, self._labels, self._resource = cluster, labels, resource
        self._fields = fields
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled.

        Raises:
            ForbiddenError: If the account may not; anything else passes.
        """
        wait = 1.0
        while True:
            try:
                listed = await self._cluster.list(self._resource, self._labels, self._fields)
                self._replace(listed)
                wait = 1.0
                version = listed["metadata"]["resourceVersion"]
                news = self._cluster.watch(self._resource, self._labels, version, self._fields)
                async for kind, item in news:
                    self._take(kind, item)
            except ForbiddenError:
                raise
            except SlipwayError as error:
                log.warning(
                    "%s cannot be read now; retrying in %g s: %s", self._resource, wait, error
                )
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    async def changed(self, timeout_seconds: float) -> None:
        """Wait for the next event, or until the time is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout_seconds)
        self._news.clear()

    def note(self, item: Manifest) -> None:
        """Take in what the API server has just answered with, unless newer is known."""
        self.found.setdefault(item["metadata"]["name"], item)

    def _replace(self, listed: Manifest) -> None:
        self.found = {item["metadata"]["name"]: item for item in listed["items"]}
        self._news.set()

    def _take(self, kind: str, item: Manifest) -> None:
        name = item["metadata"]["name"]
        if kind == "DELETED":
            self.found.pop(name, None)
        else:
            self.found[name] = item
        self._news.set()


async def while_watching(work: Coroutine[Any, Any, T], *watches: "asyncio.Task[None]") -> T:
    """Return what the work returns; a watch that ends before it, because it is refused, ends it.

    Raises:
        ForbiddenError: If the account may not watch: without news the work would wait for nothing,
            or take what it does not see for deleted.
    """
    working = asyncio.create_task(work)
    try:
        await asyncio.wait((working, *watches), return_when=asyncio.FIRST_COMPLETED)
        for watch in watches:
            if watch.done() and not working.done():
                watch.result()
        return await working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
