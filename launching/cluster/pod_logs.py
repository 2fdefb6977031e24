"""The logs of a job's pods, each line with the name of its replica.

Each pod whose log is followed live holds a connection, and a triggerer follows many jobs. So the
first pods of a job, its chief among them, are followed live; all others are read in turn.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from contract.clients.cluster import Cluster, Manifest
from contract.clients.cluster_errors import ForbiddenError
from contract.errors import NotFoundError, SlipwayError
from launching.cluster.manifests import REPLICA
from launching.cluster.pod_status import ended
from launching.log_lines import Complaints, parsed

_AGAIN_SECONDS = 2.0
_FINISH_SECONDS = 10.0
_OVERLAP_SECONDS = 5  # a line twice is better than a line lost
_MOST_LIVE = 32  # connections of one job
_MOST_LIVE_OF_ALL = 256  # of all jobs of this process; a process may often have 1,024 files open
_MOST_READERS = 4  # of one job's logs that are read in turn
_TURN_SECONDS = 30.0  # between two rounds
_TO_THE_SECOND = len("2026-01-01T12:00:00")
_FRACTION = re.compile(r"\.\d+")


_KUBEFLOW = "training.kubeflow.org/replica-"

_live_of_all: set["asyncio.Task[None]"] = set()


@dataclass
class _Reading:
    """How far one pod's log was read.

    Attributes:
        last: The time of the last line, in UTC and without its Z.
        notice: What the node said last instead of lines.
        is_complete: Whether it was read after its container had ended.
    """

    name: str
    replica: str
    last: str = ""
    notice: str = ""
    is_complete: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class PodLogs:
    """Follows pods and passes their lines on; `complaints` keeps what a failure will want."""

    def __init__(self, cluster: Cluster, say: Callable[[int, str], None]) -> None:
        self.complaints = Complaints()
        self._cluster, self._say = cluster, say
        self._since: datetime | None = None
        self._readings: dict[str, _Reading] = {}
        self._live: dict[str, asyncio.Task[None]] = {}  # in `_live_of_all`, too
        self._in_turn: asyncio.Task[None] | None = None
        self._ended: set[str] = set()
        self._is_refused = False

    def since(self, seen: str) -> None:
        """Leave out what was logged before somebody else last followed (ISO time, or empty)."""
        self._since = datetime.fromisoformat(seen) if seen else None

    def follow(self, pod: Manifest) -> None:
        """Follow a pod whose container runs or has run; once is enough."""
        name = pod["metadata"]["name"]
        if ended(pod) is not None:
            self._ended.add(name)
        if name not in self._readings:
            self._readings[name] = _Reading(name, replica_name(pod))
        reading = self._readings[name]
        if reading.is_complete or name in self._live:
            return
        if self._has_room():
            task = self._live[name] = asyncio.create_task(self._stream(reading))
            _live_of_all.add(task)
            task.add_done_callback(lambda done: self._make_room(name, done))
        elif self._in_turn is None:
            self._in_turn = asyncio.create_task(self._read_in_turn())

    async def finish(self) -> None:
        """Wait for the last lines of pods that have ended, and read what is not followed live."""
        live = [task for name, task in self._live.items() if name in self._ended]
        reading = asyncio.create_task(self._read_all(self._others()))
        try:
            await asyncio.wait([*live, reading], timeout=_FINISH_SECONDS)
        finally:
            await _cancelled([reading])

    async def close(self) -> None:
        """Follow no more."""
        await _cancelled([*self._live.values(), *filter(None, [self._in_turn])])

    # --- inside ---

    def _has_room(self) -> bool:
        """Tell whether one more may be followed live; each job may follow one at least."""
        few = len(self._live) < _MOST_LIVE and len(_live_of_all) < _MOST_LIVE_OF_ALL
        return few or not self._live

    def _make_room(self, name: str, done: "asyncio.Task[None]") -> None:
        self._live.pop(name, None)
        _live_of_all.discard(done)

    async def _stream(self, reading: _Reading) -> None:
        while not reading.is_complete:
            await self._read(reading, is_followed=True)
            if not reading.is_complete:
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _read_in_turn(self) -> None:
        self._say(
            logging.INFO,
            f"{len(self._live)} pods are followed live: the logs of the others come every "
            f"{_TURN_SECONDS:g} s",
        )
        while True:
            await self._read_all(self._others())
            await asyncio.sleep(_TURN_SECONDS)

    def _others(self) -> list[_Reading]:
        found = self._readings.values()
        return [one for one in found if not one.is_complete and one.name not in self._live]

    async def _read_all(self, readings: Iterable[_Reading]) -> None:
        waiting = iter(readings)

        async def work() -> None:
            for reading in waiting:
                await self._read(reading, is_followed=False)

        await asyncio.gather(*(work() for _ in range(_MOST_READERS)))

    async def _read(self, reading: _Reading, *, is_followed: bool) -> None:
        """Pass on what is new in a log; what cannot be read now is still there later."""
        async with reading.lock:
            known, had_ended = reading.last, reading.name in self._ended
            since_time = f"{known[:_TO_THE_SECOND]}Z" if known else ""
            try:
                lines = self._cluster.log(
                    reading.name,
                    self._since_seconds(),
                    since_time=since_time,
                    is_followed=is_followed,
                )
                async for line in lines:
                    self._note(reading, line, known)
            except NotFoundError:
                reading.is_complete = True
            except ForbiddenError as error:
                reading.is_complete = True
                self._tell_refusal(error)
            except SlipwayError:
                return
            if had_ended or (is_followed and reading.name in self._ended):
                reading.is_complete = True

    def _note(self, reading: _Reading, line: str, known: str) -> None:
        """Pass a line on if it is later than what is known."""
        time, _, text = line.partition(" ")
        if not (stamp := _in_utc(time)):
            if line != reading.notice:
                reading.notice = line
                self._pass_on(reading.replica, line)
        elif stamp > known:
            reading.last = stamp
            self._pass_on(reading.replica, text)

    def _tell_refusal(self, error: ForbiddenError) -> None:
        if not self._is_refused:
            self._is_refused = True
            self._say(logging.WARNING, f"logs of pods are not shown: {error}")

    def _since_seconds(self) -> int | None:
        if self._since is None:
            return None
        return int((datetime.now(UTC) - self._since).total_seconds()) + _OVERLAP_SECONDS

    def _pass_on(self, replica: str, line: str) -> None:
        level, text = parsed(line)
        self.complaints.note(level, f"[{replica}] {text}")
        self._say(logging.INFO if level < logging.INFO else level, f"[{replica}] {text}")


def _in_utc(text: str) -> str:
    """Return a line's time as a text that sorts as times do; empty if it is none.

    A node writes the time of its own zone, and without any what keeps it from showing a log. Go
    leaves out trailing zeros of a fraction: without a zone behind it the texts still sort.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return ""
    if time.tzinfo is None:
        return ""
    fraction = _FRACTION.search(text)
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S}{fraction[0] if fraction else ''}"


async def _cancelled(tasks: Iterable["asyncio.Task[None]"]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)


def replica_name(pod: Manifest) -> str:
    """Return what the log calls a pod: by our label, by Kubeflow's, or its name."""
    labels = pod["metadata"].get("labels", {})
    if f"{_KUBEFLOW}type" in labels:
        return f"{labels[f'{_KUBEFLOW}type']}-{labels.get(f'{_KUBEFLOW}index', 0)}"
    return str(labels.get(REPLICA, pod["metadata"]["name"]))
