"""Model servers as Deployments of a cluster, one per version."""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from contract.errors import ConfigError, ServiceUnavailableError
from contract.pods import CONTAINER, Manifest, owned
from contract.schema.cluster import ClusterConfig, KubernetesConfig
from serving.agent.hosts import server_objects
from serving.agent.hosts.host import ServerSpec, ServerState
from serving.agent.hosts.server_objects import SERVE, SERVERS, server_name
from serving.traffic.backend import Version

_LOOK_SECONDS = 2.0
_CALL_SECONDS = 5.0
_APPLY: dict[str, Any] = {
    "field_manager": "slipway-agent",
    "force": True,
    "_content_type": "application/apply-patch+yaml",
}
_NOT_FOUND = 404
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"  # in every pod's environment


class DeployedServers:
    """A ServerHost on one cluster.

    A thread reads what runs there, so that no change of traffic waits for an API
    server that does not answer.
    """

    def __init__(self, kubernetes: KubernetesConfig) -> None:
        """Take the cluster that this process runs in; outside of any, the one of step `serve`.

        Raises:
            ConfigError: If the runtime file names a context that is not there.
        """
        self._kubernetes = kubernetes
        cluster = kubernetes.cluster(SERVE)
        self._namespace = cluster.namespace
        api = _api_client(cluster)
        self._apps, self._core = client.AppsV1Api(api), client.CoreV1Api(api)
        self._scaling = client.AutoscalingV1Api(api)
        self._applied: set[Version] = set()  # by this agent, so with what its runtime file says
        self._seen: Mapping[Version, ServerState] | ServiceUnavailableError
        self._look()
        threading.Thread(target=self._look_again_and_again, daemon=True).start()

    def states(self) -> Mapping[Version, ServerState]:
        """See ServerHost."""
        seen = self._seen
        if isinstance(seen, ServiceUnavailableError):
            raise seen
        return seen

    def start(self, spec: ServerSpec) -> None:
        """See ServerHost. What is there already is brought to what the runtime file says."""
        self.states()  # or not even try
        where = {"name": server_name(spec.key), "namespace": self._namespace, **_APPLY}
        wanted = server_objects.deployment(spec, self._kubernetes)
        owner = self._call(self._apps.patch_namespaced_deployment, body=wanted, **where)
        named = owned(server_objects.service(spec.key, self._kubernetes), owner)
        self._call(self._core.patch_namespaced_service, body=named, **where)
        scaler = server_objects.autoscaler(spec.key, self._kubernetes)
        if scaler is not None:
            self._call(
                self._scaling.patch_namespaced_horizontal_pod_autoscaler,
                body=owned(scaler, owner),
                **where,
            )
        self._applied.add(spec.key)
        self._look()

    def stop(self, version: Version) -> bool:
        """See ServerHost. What the Deployment owns goes with it."""
        self.states()  # or not even try
        self._applied.discard(version)
        where = {"name": server_name(version), "namespace": self._namespace}
        try:
            self._call(
                self._apps.delete_namespaced_deployment, propagation_policy="Foreground", **where
            )
        except _AbsentError:
            return True
        finally:
            self._look()
        return False

    def is_gone(self, host: str) -> bool:
        """Tell whether no pod has this address any more; False while nobody can say."""
        try:
            found = self._call(
                self._core.list_namespaced_pod,
                namespace=self._namespace,
                field_selector=f"status.podIP={host}",
            )
        except ServiceUnavailableError:
            return False
        return all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in found["items"])

    def _look_again_and_again(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        labels = ",".join(f"{key}={value}" for key, value in SERVERS.items())
        listed = {"namespace": self._namespace, "label_selector": labels}
        try:
            deployments = self._call(self._apps.list_namespaced_deployment, **listed)
            pods = self._call(self._core.list_namespaced_pod, **listed)
        except ServiceUnavailableError as error:
            self._seen = error
        else:
            self._seen = self._read(deployments["items"], pods["items"])

    def _read(
        self, deployments: list[Manifest], pods: list[Manifest]
    ) -> dict[Version, ServerState]:
        problems: dict[Version, str] = {}
        for pod in pods:
            version = server_objects.version_of(pod["metadata"]["labels"])
            if version is not None and (problem := _problem(pod)):
                problems[version] = f"its pod {pod['metadata']['name']}: {problem}"
        states = {}
        for found in deployments:
            version = server_objects.version_of(found["metadata"]["labels"])
            if version is None:
                continue
            is_ending = "deletionTimestamp" in found["metadata"]
            states[version] = ServerState(
                server_objects.endpoint(version, self._kubernetes),
                is_kept=version in self._applied and not is_ending,
                problem=problems.get(version, ""),
            )
        return states

    def _call(self, call: Callable[..., Any], **arguments: Any) -> Any:
        """Make one call; return what was answered as plain JSON, whatever version it is of."""
        try:
            said = call(_request_timeout=_CALL_SECONDS, _preload_content=False, **arguments)
            return json.loads(said.data)
        except ApiException as error:
            kind = _AbsentError if error.status == _NOT_FOUND else ServiceUnavailableError
            raise kind(
                f"the API server refuses {call.__name__}: {error.status} {_words(error)}"
            ) from error
        except (HTTPError, OSError) as error:
            raise ServiceUnavailableError(f"the API server does not answer: {error}") from error


class _AbsentError(ServiceUnavailableError):
    """What was asked for is not there."""


def _api_client(cluster: ClusterConfig) -> client.ApiClient:
    settings = client.Configuration()
    settings.retries = False  # the reconciler tries again
    try:
        if _IN_CLUSTER in os.environ:
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(
                cluster.kubeconfig or None, cluster.context or None, client_configuration=settings
            )
    except ConfigException as error:
        raise ConfigError([f"clusters: '{cluster.context or 'in-cluster'}': {error}"]) from error
    return client.ApiClient(settings)


def _problem(pod: Manifest) -> str:
    """Say in words what keeps a pod from serving; empty if nothing does."""
    status = pod["status"]
    for condition in status.get("conditions", ()):
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


def _words(error: ApiException) -> str:
    return str(error.body or error.reason)[:500]
