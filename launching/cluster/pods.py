"""A training job as plain pods: nothing has to be installed in the cluster.

One headless Service stands for the job: it names the pods, owns them, and carries who drives the
job and how often each role was restarted. Whatever happens to the driver, the next one continues
from what the API server says.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from contract.clients.cluster import Cluster, Manifest
from contract.clients.cluster_errors import QuotaError
from contract.errors import (
    EXIT_UNEXPECTED,
    EXIT_USER_ERROR,
    ConflictError,
    NotFoundError,
)
from contract.pods import owned
from contract.schema.cluster import KubernetesConfig, Role
from launching.cluster.claim import Claim
from launching.cluster.disruptions import end_of, what_follows
from launching.cluster.job_driver import JobDriver
from launching.cluster.manifests import JOB, headless_service, replica_pod
from launching.cluster.pod_status import has_node, has_started
from launching.cluster.queueing import (
    group_of,
    in_group,
    is_admitted,
    queue_of,
    remove_workload,
)
from launching.cluster.removal import remove_pods
from launching.cluster.waiting import Say
from launching.hangs import hanging
from launching.job_spec import JobSpec, Replica
from launching.restarts import End, JobEnd, Restart

SERVICES = "services"
_LOOK_SECONDS = 5.0  # between two looks at the clock while nothing changes
_REMOVAL_SECONDS = 60.0
_SETTLE_SECONDS = 2.0  # those who fall by another's death may be seen before him


@dataclass
class _Rounds:
    """How often each replica was started again, and how many restarts each role has used.

    Attributes:
        whole: How often all were started again together.
    """

    used: dict[Role, int]
    of: dict[str, int]
    whole: int = 0

    @classmethod
    def read(cls, state: dict[str, Any]) -> "_Rounds":
        return cls(state.get("used", {}), state.get("rounds", {}), state.get("whole", 0))

    def as_state(self) -> dict[str, Any]:
        return {"used": self.used, "rounds": self.of, "whole": self.whole}

    def note(self, restart: Restart, job: JobSpec) -> None:
        """Count a restart."""
        self.used = dict(restart.used)
        for replica in restart.replicas:
            self.of[str(replica)] = self.of.get(str(replica), 0) + 1
        self.whole += set(restart.replicas) == set(job.members())


class PodJob(JobDriver):
    """Drives one job; `claim` holds the job's Service with this driver's fencing token."""

    def __init__(
        self, cluster: Cluster, job: JobSpec, kubernetes: KubernetesConfig, claim: Claim, say: Say
    ) -> None:
        super().__init__(cluster, job, kubernetes, claim, say)
        self._rounds = _Rounds({}, {})
        self._ends: dict[Replica, End] = {}
        self._never_starts = ""
        self._queue = queue_of(job, kubernetes)

    def manifest(self) -> Manifest:
        return headless_service(self.job)

    async def _forget(self) -> None:
        """Remove what a queue keeps of the pods: of each time that all were started."""
        if self._queue and not self.job.is_alone:
            rounds = max(self._rounds.whole, _Rounds.read(self.claim.state).whole)
            for round_ in range(rounds + 1):
                await remove_workload(self.cluster, group_of(self.job, round_))

    # --- following ---

    async def _drive(self, beating: "asyncio.Task[None]") -> JobEnd:
        self._rounds = _Rounds.read(self.claim.state)
        await self._pods.changed(_LOOK_SECONDS)
        end = await self._follow(beating)
        await self.logs.finish()
        return end

    async def _follow(self, beating: "asyncio.Task[None]") -> JobEnd:
        current = self._current()
        starting = [replica for replica, pod in current.items() if not has_started(pod)]
        end = await self._gather(starting) if starting or not current else None
        while end is None:
            if beating.done():
                beating.result()  # overtaken: says so
            await self._look()
            decision = self._what_follows()
            if isinstance(decision, JobEnd):
                return decision
            if decision is not None:
                await asyncio.sleep(_SETTLE_SECONDS)
                await self._look()
                settled = self._what_follows()
                assert settled is not None
                if isinstance(settled, JobEnd):
                    return settled
                end = await self._restart(settled)
                continue
            await self._pods.changed(_LOOK_SECONDS)
        return end

    def _what_follows(self) -> Restart | JobEnd | None:
        rounds = self._rounds
        return what_follows(self.job, list(self._ends.values()), rounds.used, rounds.of)

    async def _look(self) -> None:
        """Note what has ended, vanished or hangs, and follow the logs of what runs."""
        await self._note_who_hangs()
        for replica in self.job.members():
            pod = self._pods.found.get(self._name(replica))
            if replica in self._ends:
                continue
            if pod is None:  # asked again: a list may be older than what was just created
                pod = await self._existing(self._name(replica))
            if (end := end_of(self.job, replica, pod)) is not None:
                self._ends[replica] = end
            if pod is not None and has_started(pod):
                self.logs.follow(pod)

    async def _note_who_hangs(self) -> None:
        """Count who hangs by the chief's record as ended; not by one about an earlier pod."""
        created = {
            replica: datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
            for replica, pod in self._current().items()
        }
        for replica, hang in (await asyncio.to_thread(hanging, self.job, created)).items():
            self._ends.setdefault(replica, End(replica, None, f"hung: {hang.reason}"))

    async def _restart(self, restart: Restart) -> JobEnd | None:
        names = ", ".join(map(str, restart.replicas))
        self.say(
            logging.WARNING,
            f"{restart.reason}; starting {names} again in {restart.after_seconds:g} s",
        )
        await self.logs.finish()
        old = [self._name(replica) for replica in restart.replicas]
        self._rounds.note(restart, self.job)
        for replica in restart.replicas:
            self._ends.pop(replica, None)
        await self.claim.save(self._rounds.as_state())
        await self._remove(old)
        await asyncio.sleep(restart.after_seconds)
        return await self._gather(restart.replicas)

    # --- starting: all of them or none ---

    async def _gather(self, replicas: Iterable[Replica] = ()) -> JobEnd | None:
        """Start all given replicas (all, without) together; return how that failed, if it did."""
        wanted = tuple(replicas) or tuple(self.job.members())
        await self._remove(self._stale())
        settings = self.job.settings
        deadline = time.monotonic() + settings.start_deadline_seconds
        while True:
            problem, patience = await self._create(wanted), self._patience(wanted)
            if not problem and not all(map(is_admitted, self._found(wanted).values())):
                until = time.monotonic() + settings.queue_deadline_seconds
                if problem := await self._wait_until(wanted, is_admitted, until):
                    return self._not_started(problem, settings.queue_deadline_seconds)
                deadline = time.monotonic() + settings.start_deadline_seconds
            if not problem:
                until = min(deadline, time.monotonic() + patience)
                problem = await self._wait_until(wanted, has_node, until)
            if not problem:
                break
            if self._never_starts or time.monotonic() >= deadline:
                return self._not_started(problem)
            self.say(logging.INFO, f"not all can start now, so none does: {problem}")
            await self._remove([self._name(replica) for replica in wanted])
            # Chance, so that two jobs which stood in each other's way do not meet again.
            await asyncio.sleep(settings.gang_seconds * random.uniform(0.2, 1.2))
        problem = await self._wait_until(wanted, has_started, deadline)
        if problem:
            return self._not_started(problem)
        self.say(logging.INFO, f"started: {', '.join(map(str, wanted))}")
        return None

    def _patience(self, wanted: tuple[Replica, ...]) -> float:
        """Return for how long pods may hold nodes while others have none.

        A queue admits all together, and an autoscaler makes nodes for those that wait.
        """
        settings = self.job.settings
        helped = self._queue or self.cluster.settings.is_autoscaled
        is_gang = len(wanted) > 1 and not helped
        return settings.gang_seconds if is_gang else settings.start_deadline_seconds

    def _not_started(self, problem: str, seconds: float = 0.0) -> JobEnd:
        if self._never_starts:
            return JobEnd(EXIT_USER_ERROR, self._never_starts)
        seconds = seconds or self.job.settings.start_deadline_seconds
        return JobEnd(EXIT_UNEXPECTED, f"not started within {seconds:g} s: {problem}")

    async def _create(self, replicas: tuple[Replica, ...]) -> str:
        """Create the pods; return what the first that was refused waits for."""
        for replica in replicas:
            round_ = self._rounds.of.get(str(replica), 0)
            body = replica_pod(self.job, self.kubernetes, replica, round_, self.cluster.namespace)
            grouped = in_group(body, self.job, replica, self._rounds.whole)
            try:
                await self._create_pod(owned(grouped, self.claim.held))
            except QuotaError as error:
                return f"{replica}: {error}"
        return ""

    async def _create_pod(self, body: Manifest) -> None:
        until = time.monotonic() + _REMOVAL_SECONDS
        while True:
            try:
                self._pods.note(await self.cluster.create("pods", body))
                return
            except ConflictError:
                found = await self._existing(body["metadata"]["name"])
                if found is not None and _owner(found) == _owner(body):
                    self._pods.note(found)
                    return
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(_LOOK_SECONDS / 10)  # an earlier job's pod is on its way out

    async def _existing(self, name: str) -> Manifest | None:
        try:
            return await self.cluster.get("pods", name)
        except NotFoundError:
            return None

    async def _wait_until(
        self, replicas: tuple[Replica, ...], is_so: Callable[[Manifest], bool], until: float
    ) -> str:
        """Wait until it is so of all their pods; return what the others wait for, if it is not."""
        while True:
            pods = {str(replica): pod for replica, pod in self._found(replicas).items()}
            self._never_starts = await self.waiting.look(pods)
            waiting = [name for name, pod in pods.items() if not is_so(pod)]
            for pod in pods.values():
                if has_started(pod):
                    self.logs.follow(pod)
            if not waiting or self._never_starts or time.monotonic() >= until:
                return "; ".join(f"{name} waits for {self.waiting.told[name]}" for name in waiting)
            await self._pods.changed(min(_LOOK_SECONDS, max(0.1, until - time.monotonic())))

    # --- pods ---

    def _name(self, replica: Replica) -> str:
        return f"{self.job.name}-{replica}-{self._rounds.of.get(str(replica), 0)}"

    def _current(self) -> dict[Replica, Manifest]:
        return self._found(self.job.members())

    def _found(self, replicas: Iterable[Replica]) -> dict[Replica, Manifest]:
        pods = ((replica, self._pods.found.get(self._name(replica))) for replica in replicas)
        return {replica: pod for replica, pod in pods if pod is not None}

    def _stale(self) -> list[str]:
        current = {self._name(replica) for replica in self.job.members()}
        return [name for name in self._pods.found if name not in current]

    async def _remove(self, names: Iterable[str]) -> None:
        """Delete pods and wait until they are gone, so that what they held is free."""
        names = [name for name in names if name in self._pods.found]
        if names:
            grace = self.job.settings.grace_seconds
            await remove_pods(
                self.cluster,
                {JOB: self.job.name},
                grace,
                lambda pod: pod["metadata"]["name"] in names and self.owns(pod),
            )
        until = time.monotonic() + _LOOK_SECONDS
        while any(name in self._pods.found for name in names) and time.monotonic() < until:
            await self._pods.changed(1.0)


def _owner(body: Manifest) -> str:
    references = body["metadata"].get("ownerReferences") or [{}]
    return str(references[0].get("uid", ""))
