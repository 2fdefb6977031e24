"""What pods wait for before they run: told as it happens, and ended where waiting cannot help."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

from contract.clients.cluster import Cluster, Manifest
from contract.clients.cluster_errors import ForbiddenError
from contract.errors import SlipwayError
from contract.schema.cluster import KubernetesConfig
from launching.cluster.nodes import no_node_for, read_nodes
from launching.cluster.pod_status import (
    A_NODE,
    has_no_image,
    has_started,
    image,
    is_hopeless,
    is_not_created,
    is_unschedulable,
    waits_for,
)
from launching.cluster.shared_watch import shared_watch
from launching.cluster.watching import Watch

Say = Callable[[int, str], None]  # logging level and text

# The kubelet tries to create a container again after 10 to 20 seconds.
_CREATION_SECONDS = 45.0

# What goes well with every pod, and what the pod's own status says.
_QUIET = frozenset({"Scheduled", "Pulled", "Created", "Started", "FailedScheduling"})


class Waiting:
    """Looks after the pods of one job that have not started; calls the API only while some wait.

    Attributes:
        told: What each last waited for, by what the log calls it.
    """

    def __init__(self, cluster: Cluster, kubernetes: KubernetesConfig, say: Say) -> None:
        self._cluster, self._say = cluster, say
        self._pull_seconds = kubernetes.pull_retry_seconds
        self._events: Watch | None = None  # of all pods of the namespace, while some wait
        self._watching: asyncio.Task[None] | None = None
        self.told: dict[str, str] = {}
        self._told_events: set[tuple[str, str, str]] = set()
        # by uid: whether it is a pull that fails, since when, and what was first said
        self._failing: dict[str, tuple[bool, float, str]] = {}
        self._compared: set[str] = set()

    async def look(self, pods: Mapping[str, Manifest]) -> str:
        """Tell what is new, and return why one of the pods can never start; empty if all may.

        Args:
            pods: By what the log calls them; empty for a pod that is alone.
        """
        waiting = {name: pod for name, pod in pods.items() if not has_started(pod)}
        if not waiting:
            await self.close()
            return ""
        self._tell_states(waiting)
        self._tell_events(waiting)
        for name, pod in waiting.items():
            if why := self._no_start(pod) or await self._no_node(name, pod):
                return f"{_prefix(name)}pod {pod['metadata']['name']} can never start: {why}"
        return ""

    async def close(self) -> None:
        """Watch no more."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError, SlipwayError):
                await self._watching
            self._watching = None

    # --- inside ---

    def _tell_states(self, waiting: Mapping[str, Manifest]) -> None:
        for name, pod in waiting.items():
            what = waits_for(pod)
            # the scheduler has no message for a new pod yet: its last message stays
            if what != self.told.get(name) and not (what == A_NODE and name in self.told):
                self.told[name] = what
                self._say(logging.INFO, f"{_prefix(name)}waits for {what}")

    def _tell_events(self, waiting: Mapping[str, Manifest]) -> None:
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch_events())
        names = {pod["metadata"]["uid"]: name for name, pod in waiting.items()}
        for event in list(self._events.found.values()) if self._events else ():
            uid = event["involvedObject"].get("uid", "")
            reason, message = event.get("reason", ""), event.get("message", "")
            if uid not in names or reason in _QUIET or (uid, reason, message) in self._told_events:
                continue
            self._told_events.add((uid, reason, message))
            level = logging.WARNING if event.get("type") == "Warning" else logging.INFO
            self._say(level, f"{_prefix(names[uid])}{reason}: {message}")

    async def _watch_events(self) -> None:
        try:
            fields = {"involvedObject.kind": "Pod"}
            async with shared_watch(self._cluster.settings, "events", fields) as shared:
                self._events = shared.watch
                await shared.until_refused()
        except ForbiddenError as error:
            self._say(logging.WARNING, f"pod events are not shown: {error}")

    def _no_start(self, pod: Manifest) -> str:
        """Say why the kubelet will not start it: at once, or after a while of failing."""
        uid, what = pod["metadata"]["uid"], f"image {image(pod)}: {waits_for(pod)}"
        if is_hopeless(pod):
            return what
        is_pull = has_no_image(pod)
        if not is_pull and not is_not_created(pod):
            self._failing.pop(uid, None)
            return ""
        # later the kubelet only says that it backs off
        if uid not in self._failing or self._failing[uid][0] != is_pull:
            self._failing[uid] = (is_pull, time.monotonic(), what)
        _, since, said = self._failing[uid]
        seconds = time.monotonic() - since
        patience = self._pull_seconds if is_pull else _CREATION_SECONDS
        return f"{said} (tried for {seconds:.0f} s)" if seconds >= patience else ""

    async def _no_node(self, name: str, pod: Manifest) -> str:
        """Compare once what the pod asks for with what the nodes have."""
        settings = self._cluster.settings
        if settings.is_autoscaled or name in self._compared or not is_unschedulable(pod):
            return ""
        self._compared.add(name)
        nodes, unreadable = await read_nodes(self._cluster)
        if nodes is None:
            self._say(logging.WARNING, unreadable)
            return ""
        return no_node_for(pod, nodes)


def _prefix(name: str) -> str:
    return f"[{name}] " if name else ""
