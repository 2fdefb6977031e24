"""The logs of a job's pods, live, each line with the name of its replica."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from contract.clients.cluster import Cluster, Manifest
from contract.errors import NotFoundError, SlipwayError
from launching.cluster.manifests import REPLICA
from launching.cluster.pod_status import ended
from launching.log_lines import Complaints, parsed

_AGAIN_SECONDS = 2.0
_FINISH_SECONDS = 10.0
_OVERLAP_SECONDS = 5  # a line twice is better than a line lost


_KUBEFLOW = "training.kubeflow.org/replica-"


class PodLogs:
    """Follows pods and passes their lines on; `complaints` keeps what a failure will want."""

    def __init__(self, cluster: Cluster, say: Callable[[int, str], None]) -> None:
        self.complaints = Complaints()
        self._cluster, self._say = cluster, say
        self._since: datetime | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: set[str] = set()

    def since(self, seen: str) -> None:
        """Leave out what was logged before somebody else last followed (ISO time, or empty)."""
        self._since = datetime.fromisoformat(seen) if seen else None

    def follow(self, pod: Manifest) -> None:
        """Follow a pod whose container runs or has run; once is enough."""
        name = pod["metadata"]["name"]
        if ended(pod) is not None:
            self._ended.add(name)
        if name not in self._tasks:
            self._tasks[name] = asyncio.create_task(self._stream(name, replica_name(pod)))

    async def finish(self) -> None:
        """Wait for the last lines of the pods that have ended."""
        ending = [task for name, task in self._tasks.items() if name in self._ended]
        if ending:
            await asyncio.wait(ending, timeout=_FINISH_SECONDS)

    async def close(self) -> None:
        """Follow no more."""
        for task in self._tasks.values():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _stream(self, name: str, replica: str) -> None:
        last, wait = "", 0.0
        while True:
            await asyncio.sleep(wait)
            known = last
            try:
                async for line in self._cluster.log(name, self._since_seconds()):
                    time, _, text = line.partition(" ")
                    # Go leaves out trailing zeros: without the Z the texts sort as the times do.
                    if (stamp := time.rstrip("Z")) > known:
                        last = stamp
                        self._pass_on(replica, text)
                if name in self._ended:
                    return
            except NotFoundError:
                return
            except SlipwayError:
                pass  # the API server is away: the lines are still there when it is back
            wait = _AGAIN_SECONDS

    def _since_seconds(self) -> int | None:
        if self._since is None:
            return None
        return int((datetime.now(UTC) - self._since).total_seconds()) + _OVERLAP_SECONDS

    def _pass_on(self, replica: str, line: str) -> None:
        level, text = parsed(line)
        self.complaints.note(level, f"[{replica}] {text}")
        self._say(logging.INFO if level < logging.INFO else level, f"[{replica}] {text}")


def replica_name(pod: Manifest) -> str:
    """Return what the log calls a pod: by our label, by Kubeflow's, or its name."""
    labels = pod["metadata"].get("labels", {})
    if f"{_KUBEFLOW}type" in labels:
        return f"{labels[f'{_KUBEFLOW}type']}-{labels.get(f'{_KUBEFLOW}index', 0)}"
    return str(labels.get(REPLICA, pod["metadata"]["name"]))
