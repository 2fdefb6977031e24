"""What driving a job on a cluster is, whatever its kind: claimed, followed to its end, removed."""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod

from contract.clients.cluster import Cluster, Manifest
from contract.errors import SlipwayError
from contract.schema.cluster import KubernetesConfig
from launching.cluster.claim import Claim
from launching.cluster.manifests import JOB
from launching.cluster.pod_logs import PodLogs
from launching.cluster.removal import remove_pods
from launching.cluster.waiting import Say, Waiting
from launching.cluster.watching import Watch, while_watching
from launching.job_spec import JobSpec, in_words
from launching.restarts import JobEnd

_HEARTBEAT_SECONDS = 60.0


class JobDriver(ABC):
    """Drives one job; `claim` holds its first object with this driver's fencing token."""

    kind = "job"

    def __init__(
        self, cluster: Cluster, job: JobSpec, kubernetes: KubernetesConfig, claim: Claim, say: Say
    ) -> None:
        self.cluster, self.job, self.kubernetes = cluster, job, kubernetes
        self.claim, self.say = claim, say
        self.logs = PodLogs(cluster, say)
        self.waiting = Waiting(cluster, kubernetes, say)
        self._pods = Watch(cluster, {JOB: job.name})
        self._watches = [self._pods]

    @abstractmethod
    def manifest(self) -> Manifest:
        """Return the object whose creation claims the job."""

    @abstractmethod
    async def _drive(self, beating: "asyncio.Task[None]") -> JobEnd:
        """Follow the job to its end and its logs to theirs; `beating` ends when overtaken."""

    async def _forget(self) -> None:  # noqa: B027 (most kinds leave nothing)
        """Remove what others keep of a job whose pods are gone."""

    async def run(self) -> JobEnd:
        """Start or adopt the job, follow it to its end and remove it.

        Raises:
            ConflictError: If a later attempt has taken over; then nothing was removed.
            ForbiddenError: If the account lacks a right.
        """
        await self.claim.take(self.manifest())
        how = "adopted" if self.claim.is_adopted else "created"
        self.say(logging.INFO, f"{self.kind} {self.job.name} {how}: {in_words(self.job.replicas)}")
        self.logs.since(self.claim.seen_before)
        watching = [asyncio.create_task(watch.run()) for watch in self._watches]
        beating = asyncio.create_task(self._heartbeat())
        try:
            end = await while_watching(self._drive(beating), *watching)
        finally:
            await _cancelled(*watching, beating)
            await self.waiting.close()
            await self.logs.close()
        await self.kill()
        return end

    async def kill(self) -> bool:
        """Remove the job if it is still this attempt's; return whether it was."""
        if not self.claim.held and not await self.claim.find(self.job.name):
            return False
        if not await self.claim.release():
            self.say(logging.WARNING, f"job {self.job.name} is another attempt's: not changed")
            return False
        grace = self.job.settings.grace_seconds
        await remove_pods(self.cluster, {JOB: self.job.name}, grace, self.owns)
        await self._forget()
        return True

    def owns(self, pod: Manifest) -> bool:
        """Tell whether a pod of the job's name is of this object, and not of its successor's.

        One that another kind of object owns (a Job of the mpi-operator) counts as ours.
        """
        held, references = self.claim.held, pod["metadata"].get("ownerReferences") or ()
        owners = [owner["uid"] for owner in references if owner["kind"] == held["kind"]]
        return not owners or held["metadata"]["uid"] in owners

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            await self.claim.save()


async def _cancelled(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, SlipwayError):
            await task
