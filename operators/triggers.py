"""What waits in the triggerer: a job that is driven there, a component's pod, its logs."""

import asyncio
import contextlib
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from contract.clients.cluster import Cluster, Manifest
from contract.errors import EXIT_UNEXPECTED, EXIT_USER_ERROR, SlipwayError, UserError
from contract.records.training import TrainingEnded
from contract.schema.cluster import KubernetesConfig
from launching.cluster.claim import Claim
from launching.cluster.kinds import JobDriver, open_job
from launching.cluster.manifests import ATTEMPT, REPLICA
from launching.cluster.pod_logs import PodLogs
from launching.cluster.pod_status import ended, has_started, waits_for
from launching.cluster.queueing import is_admitted
from launching.cluster.reaper import reap
from launching.cluster.removal import remove_pods
from launching.cluster.waiting import Waiting
from launching.cluster.watching import Watch, while_watching
from launching.job_spec import JobSpec
from launching.restarts import JobEnd

_PATIENCE_SECONDS = 600.0  # an API server may be away for so long; the pods run on
_LOOK_SECONDS = 5.0
_WATCH_TASK_SECONDS = 10.0
_LOST_STATES = ("failed", "upstream_failed", "skipped", "removed")


class _ClusterTrigger(BaseTrigger):
    """Base of both: arguments that survive being written down, and one event at the end."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments
        self.kubernetes = KubernetesConfig.model_validate(arguments["kubernetes"], strict=False)
        self.deadline: float = arguments["deadline"]  # seconds since the epoch
        self.attempt: int = arguments["attempt"]

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end, at most until the deadline, and tell how it was."""
        try:
            end = await asyncio.wait_for(self.follow(), max(1.0, self.deadline - time.time()))
        except TimeoutError:
            await self.on_kill()
            end = JobEnd(EXIT_UNEXPECTED, "not done within the task's time (execution_timeout)")
        except SlipwayError as error:
            end = JobEnd(error.exit_code, str(error))
        yield TriggerEvent(self.event(end))

    @abstractmethod
    async def follow(self) -> JobEnd:
        """Follow what runs to its end."""

    def event(self, end: JobEnd) -> dict[str, Any]:
        """Return what the task resumes with."""
        said = self.complaints()
        complaints = "\n".join(filter(None, (end.reason if not end.is_good else "", said)))
        return {
            "exit_code": end.exit_code,
            "complaints": complaints,
            "earlier": self.arguments["earlier"],
        }

    @abstractmethod
    def complaints(self) -> str:
        """Return the latest errors that were logged."""

    def cluster(self) -> Cluster:
        settings = self.kubernetes.clusters[self.arguments["cluster"]]
        return Cluster(settings, patience_seconds=_PATIENCE_SECONDS)

    def say(self, level: int, text: str) -> None:
        self.log.log(level, "%s", text)


class JobTrigger(_ClusterTrigger):
    """Starts or adopts a job, drives it and removes it; see `launching/cluster/`.

    Only a person's kill (clearing, marking, stopping the run) reaches `on_kill`. A triggerer that
    dies leaves the job running; the next one adopts it.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.job = JobSpec.model_validate(arguments["job"], strict=False)
        self._driver: JobDriver | None = None

    async def follow(self) -> JobEnd:
        async with self.cluster() as cluster:
            await reap(cluster, self.kubernetes.job.ttl_seconds)
            self._driver = self._open(cluster)
            try:
                return await self._driver.run()
            except UserError:
                await self._driver.kill()  # what was made before the refusal
                raise

    async def on_kill(self) -> None:
        """Remove the job, if it is still this attempt's."""
        async with self.cluster() as cluster:
            if await self._open(cluster).kill():
                self.log.info("Removed job %s", self.job.name)

    def complaints(self) -> str:
        return str(self._driver.logs.complaints) if self._driver else ""

    def _open(self, cluster: Cluster) -> JobDriver:
        resource = self.arguments["resource"]
        generation = self.arguments["generation"]
        claim = Claim(cluster, resource, self.job.labels, generation, self.attempt)
        return open_job(cluster, self.job, self.kubernetes, claim, self.say)


class EvaluationTrigger(JobTrigger):
    """Drives the evaluators, and tells them when training has failed for good.

    Airflow's own state of `train` decides that: only Airflow knows whether there will be a retry.
    """

    async def follow(self) -> JobEnd:
        watching = asyncio.create_task(self._watch_training())
        try:
            return await super().follow()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch_training(self) -> None:
        task, ended_file = self.task_instance, Path(self.arguments["training_ended"])
        assert task is not None  # the triggerer has set it
        states_of = sync_to_async(RuntimeTaskInstance.get_task_states)
        while not ended_file.exists():
            await asyncio.sleep(_WATCH_TASK_SECONDS)
            states = await states_of(dag_id=task.dag_id, task_ids=["train"], run_ids=[task.run_id])
            state = states.get(task.run_id, {}).get("train")
            if state in _LOST_STATES:
                reason = f"task 'train' is {state}"
                self.log.warning("%s: no more checkpoints will come", reason)
                now = datetime.now(UTC)
                TrainingEnded(has_succeeded=False, last_step=0, reason=reason, ended_at=now).write(
                    ended_file
                )


class PodTrigger(_ClusterTrigger):
    """Waits for a component's pod: logs live, what it waits for in words, few calls.

    It stands in for the provider's own trigger, which polls, and which deletes a pod by its name
    alone: also one that a later attempt has adopted.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.pod: str = arguments["pod"]
        self._logs: PodLogs | None = None
        self._has_ended = False

    async def follow(self) -> JobEnd:
        async with self.cluster() as cluster:
            self._logs = PodLogs(cluster, self.say)
            waiting = Waiting(cluster, self.kubernetes, self.say)
            watch = Watch(cluster, self.arguments["labels"])
            watching = asyncio.create_task(watch.run())
            try:
                following = self._wait(watch, waiting, self._logs)
                end = await while_watching(following, watching)
                await self._logs.finish()
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
                await waiting.close()
                await self._logs.close()
            return end

    async def on_kill(self) -> None:
        """Delete the pod, if it is still this attempt's."""
        async with self.cluster() as cluster:
            with contextlib.suppress(SlipwayError):
                if not self._is_own(await cluster.get("pods", self.pod)):
                    self.log.warning("Pod %s belongs to another attempt: not changed", self.pod)
                    return
                grace = self.kubernetes.job.grace_seconds
                await remove_pods(cluster, self.arguments["labels"], grace, self._is_own)
                self.log.info("Removed pod %s", self.pod)

    def event(self, end: JobEnd) -> dict[str, Any]:
        """Return the event in the form that KubernetesPodOperator resumes with."""
        return {
            **super().event(end),
            # after "failed" the provider would wait for a pod that has not ended
            "status": "success" if end.is_good else "failed" if self._has_ended else "timeout",
            "name": self.pod,
            "namespace": self.kubernetes.clusters[self.arguments["cluster"]].namespace,
            "message": end.reason,
            "attempt": self.attempt,
        }

    def complaints(self) -> str:
        return str(self._logs.complaints) if self._logs else ""

    def _is_own(self, pod: Manifest) -> bool:
        token = int(pod["metadata"].get("annotations", {}).get(ATTEMPT, 0))
        return bool(pod["metadata"]["name"] == self.pod and token == self.attempt)

    async def _wait(self, watch: Watch, waiting: Waiting, logs: PodLogs) -> JobEnd:
        start_by = time.monotonic() + self.kubernetes.start_timeout_seconds
        await watch.changed(_LOOK_SECONDS)
        while True:
            pod = watch.found.get(self.pod)
            if pod is None:
                return JobEnd(EXIT_UNEXPECTED, f"pod {self.pod} was deleted")
            if has_started(pod):
                logs.follow(_without_replica(pod))
            if (how := ended(pod)) is not None:
                self._has_ended = True
                return JobEnd(EXIT_UNEXPECTED if how[0] is None else how[0], how[1])
            if why := await waiting.look({"": pod}):
                return JobEnd(EXIT_USER_ERROR, why)
            if not is_admitted(pod):
                start_by = time.monotonic() + self.kubernetes.start_timeout_seconds
            if not has_started(pod) and time.monotonic() > start_by:
                return JobEnd(EXIT_UNEXPECTED, f"cannot start: waits for {waits_for(pod)}")
            await watch.changed(_LOOK_SECONDS)


def _without_replica(pod: Manifest) -> Manifest:
    """A component has one pod: its step's name is prefix enough."""
    labels = {**pod["metadata"].get("labels", {})}
    labels[REPLICA] = labels.get("task_id", pod["metadata"]["name"])
    return {**pod, "metadata": {**pod["metadata"], "labels": labels}}
