"""Model servers as Deployments of a cluster, one per version."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from contract.clients.cluster import Cluster
from contract.errors import NotFoundError, ServiceUnavailableError, SlipwayError
from contract.pod_templates import CONTAINER, Manifest
from contract.pods import owned
from contract.schema.cluster import ClusterConfig, KubernetesConfig
from serving.agent.hosts import server_objects
from serving.agent.hosts.host import ServerSpec, ServerState
from serving.agent.hosts.scale_repairs import ScaleRepairs
from serving.agent.hosts.server_objects import SERVE, SERVERS, server_name
from serving.traffic.backend import Version

T = TypeVar("T")

log = logging.getLogger("slipway.agent")

_LOOK_SECONDS = 2.0
_CALL_SECONDS = 5.0
_MANAGER = "slipway-agent"
_DEPLOYMENTS = "apps/v1/deployments"
_BUDGETS = "poddisruptionbudgets"
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"  # in every pod's environment


@contextlib.contextmanager
def deployed_servers(kubernetes: KubernetesConfig) -> Iterator["DeployedServers"]:
    """Yield the servers of the cluster that this process runs in, or else of step `serve`'s.

    A thread makes all calls, and reads every two seconds what runs there, so that no change of
    traffic waits for an API server that does not answer.

    Raises:
        ConfigError: If the runtime file names a context that is not there.
    """
    cluster = Cluster(_reached(kubernetes.cluster(SERVE)), call_seconds=_CALL_SECONDS)
    with start_blocking_portal() as thread, thread.wrap_async_context_manager(cluster):
        servers = DeployedServers(kubernetes, cluster, thread)
        thread.call(servers.look)
        looking = thread.start_task_soon(servers.look_again_and_again)
        try:
            yield servers
        finally:
            looking.cancel()


class DeployedServers:
    """A ServerHost on one cluster, whose calls another thread makes; see `deployed_servers`."""

    def __init__(
        self, kubernetes: KubernetesConfig, cluster: Cluster, thread: BlockingPortal
    ) -> None:
        self._kubernetes, self._cluster, self._thread = kubernetes, cluster, thread
        self._applied: set[Version] = set()  # by this agent, so with what its runtime file says
        self._seen: Mapping[Version, ServerState] | ServiceUnavailableError = {}
        self._scaled_down: dict[Version, str] = {}  # by somebody else, in words
        self._repairs = ScaleRepairs()

    def states(self) -> Mapping[Version, ServerState]:
        """See ServerHost."""
        seen = self._seen
        if isinstance(seen, ServiceUnavailableError):
            raise seen
        return seen

    def start(self, spec: ServerSpec) -> None:
        """See ServerHost. What is there already is brought to what the runtime file says."""
        self.states()  # or not even try
        self._answer_of(self._apply, spec)

    def end(self, version: Version) -> None:
        """See ServerHost. The kubelet does so, by the pods' own probes."""

    def stop(self, version: Version) -> bool:
        """See ServerHost. What the Deployment owns goes with it."""
        self.states()  # or not even try
        self._applied.discard(version)
        return self._answer_of(self._delete, version)

    def is_gone(self, host: str) -> bool:
        """Tell whether no pod has this address any more; False while nobody can say."""
        try:
            found = self._answer_of(self._cluster.list, "pods", {}, {"status.podIP": host})
        except ServiceUnavailableError:
            return False
        return all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in found["items"])

    def _answer_of(self, calls: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Make calls in the thread and wait for them; whatever is refused is tried again later.

        Raises:
            ServiceUnavailableError: If the API server does not answer, or refuses.
        """
        try:
            return self._thread.call(calls, *arguments)
        except SlipwayError as error:
            raise ServiceUnavailableError(str(error)) from error

    # --- in the thread ---

    async def _apply(self, spec: ServerSpec) -> None:
        spec.predictions.mkdir(parents=True, exist_ok=True)  # a node would make it as root
        wanted = server_objects.deployment(spec, self._kubernetes)
        owner = await self._cluster.apply(_DEPLOYMENTS, wanted, _MANAGER)
        service = server_objects.service(spec, self._kubernetes)
        await self._cluster.apply("services", owned(service, owner), _MANAGER)
        scaler = server_objects.autoscaler(spec.key, self._kubernetes)
        if scaler is not None:
            scalers = "autoscaling/v1/horizontalpodautoscalers"
            await self._cluster.apply(scalers, owned(scaler, owner), _MANAGER)
        await self._apply_budget(spec.key, owner)
        self._applied.add(spec.key)
        await self.look()

    async def _apply_budget(self, version: Version, owner: Manifest) -> None:
        """Apply the PodDisruptionBudget; a server runs without it where it is refused."""
        budget = server_objects.disruption_budget(version, self._kubernetes)
        if budget is None:
            return
        refusals = []
        for form in (budget, *server_objects.older_budgets(budget)):
            resource = f"{form['apiVersion']}/{_BUDGETS}"
            try:
                await self._cluster.apply(resource, owned(form, owner), _MANAGER)
                return
            except SlipwayError as error:
                refusals.append(error)
        if version not in self._applied:
            known = [error for error in refusals if not isinstance(error, NotFoundError)]
            said = (known or refusals)[-1]
            log.warning("%s: version %d runs without a PodDisruptionBudget: %s", *version, said)

    async def _delete(self, version: Version) -> bool:
        """Delete the Deployment; True if it is gone."""
        try:
            options = {"propagationPolicy": "Foreground"}
            return not await self._cluster.delete(_DEPLOYMENTS, server_name(version), options)
        finally:
            self._repairs.forget(version)
            self._scaled_down.pop(version, None)
            await self.look()

    async def look_again_and_again(self) -> None:
        """Read what runs there, until the task is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Read what runs there now, or why that cannot be said."""
        try:
            deployments = await self._cluster.list(_DEPLOYMENTS, SERVERS)
            pods = await self._cluster.list("pods", SERVERS)
            self._seen = self._read(deployments["items"], pods["items"])
            await self._repair(deployments["items"])
        except SlipwayError as error:
            self._seen = ServiceUnavailableError(str(error))
        except (LookupError, TypeError, ValueError) as error:
            self._seen = ServiceUnavailableError(f"the API server's answer: {error!r}")

    async def _repair(self, deployments: list[Manifest]) -> None:
        """Give back its replicas to a server that somebody has scaled below what it should have.

        An autoscaler does so itself, but for none: at 0 it takes itself for switched off.
        """
        wanted = self._kubernetes.serving.min_replicas
        least = 1 if server_objects.is_scaled(self._kubernetes) else wanted
        for found in deployments:
            version = server_objects.version_of(found["metadata"]["labels"])
            has = found.get("spec", {}).get("replicas", wanted)
            if version is None or version not in self._applied:
                continue
            if has < least:
                await self._scale_up(version, found["metadata"]["name"], has)
                continue
            self._repairs.has_its_replicas(version)
            ready = found.get("status", {}).get("readyReplicas", 0)
            # a small cluster may never have a node for all of them
            if ready >= wanted or (ready > 0 and self._repairs.has_lasted(version)):
                self._scaled_down.pop(version, None)

    async def _scale_up(self, version: Version, name: str, has: int) -> None:
        """Scale a Deployment up, unless that must wait; a refusal is this version's problem only.

        The next look tells it.
        """
        wanted = self._kubernetes.serving.min_replicas
        words = f"its Deployment {name} was scaled to {has} replicas"
        if self._repairs.seconds_to_next(version) == 0:
            self._repairs.begin(version)
            try:
                await self._cluster.patch(_DEPLOYMENTS, name, {"spec": {"replicas": wanted}})
                self._scaled_down[version] = f"{words}: set to {wanted} again"
                log.warning("%s: version %d: %s", *version, self._scaled_down[version])
                return
            except SlipwayError as error:
                self._repairs.refuse(version, str(error))
        why = self._repairs.why_it_waits(version)
        self._scaled_down[version] = f"{words} and is not set to {wanted} again yet: {why}"

    def _read(
        self, deployments: list[Manifest], pods: list[Manifest]
    ) -> dict[Version, ServerState]:
        serving = {
            server_objects.version_of(found["metadata"]["labels"])
            for found in deployments
            if found.get("status", {}).get("readyReplicas", 0) > 0
        }
        problems: dict[Version, str] = {}
        for pod in pods:
            version = server_objects.version_of(pod["metadata"]["labels"])
            if version is not None and (problem := _problem(pod, version in serving)):
                problems[version] = f"its pod {pod['metadata']['name']}: {problem}"
        states = {}
        for found in deployments:
            version = server_objects.version_of(found["metadata"]["labels"])
            if version is None:
                continue
            is_ending = "deletionTimestamp" in found["metadata"]
            states[version] = ServerState(
                server_objects.endpoint(version, self._kubernetes, server_objects.has_grpc(found)),
                is_kept=version in self._applied and not is_ending,
                problem=self._scaled_down.get(version) or problems.get(version, ""),
            )
        return states


def _reached(cluster: ClusterConfig) -> ClusterConfig:
    """Return the cluster as this process reaches it: a pod's own by its service account."""
    if _IN_CLUSTER not in os.environ:
        return cluster
    return cluster.model_copy(update={"context": "", "kubeconfig": ""})


def _problem(pod: Manifest, is_served: bool) -> str:
    """Say in words what keeps a pod from serving; empty if nothing does.

    Args:
        is_served: Whether another pod of the version is ready: then one that waits for a node,
            as a second replica does on a small cluster, is not a problem.
    """
    status = pod["status"]
    for condition in () if is_served else status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"waits for a node: {condition.get('message', condition.get('reason', ''))}"
    for container in status.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting")
        if container["name"] == CONTAINER and waiting and waiting["reason"] in _TROUBLES:
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    return ""


_TROUBLES = frozenset(
    {
        *("CrashLoopBackOff", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"),
        *("InvalidImageName", "CreateContainerConfigError", "CreateContainerError"),
    }
)
