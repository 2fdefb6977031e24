"""A cluster's Kubernetes API: a client on plain objects as the API has them, and its errors."""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp
import yaml
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.config.config_exception import ConfigException
from kubernetes_asyncio.config.kube_config import KubeConfigMerger

from contract.addresses import is_of_this_machine
from contract.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    ServiceUnavailableError,
    SlipwayError,
    did_you_mean,
)
from contract.schema.cluster import ClusterConfig

log = logging.getLogger(__name__)

Manifest = dict[str, Any]  # a Kubernetes object, in the API's own JSON form

WATCH_SECONDS = 240  # then the list is read again, so a missed event costs no more time
_CALL_SECONDS = 15.0
_EVENT_BYTES = 1 << 21  # as kubernetes_asyncio has it: an object of etcd's limit fits a line
_UNREADABLE = (ConfigException, OSError, yaml.YAMLError)  # of a kubeconfig
_AGAIN_SECONDS = 2.0
_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"


class QuotaError(SlipwayError):
    """The namespace's quota has no room now; others may leave some."""


class ForbiddenError(ConfigError):
    """The account lacks a right."""


class Cluster:
    """One namespace of one cluster. Use as an async context manager.

    Every call may raise ServiceUnavailableError (the API server does not answer), ConfigError (it
    refuses: who asks, what or where), NotFoundError or ConflictError. `calls` counts them.
    """

    def __init__(
        self,
        settings: ClusterConfig,
        patience_seconds: float = 0.0,
        call_seconds: float = _CALL_SECONDS,
    ) -> None:
        """Prepare to talk.

        Args:
            patience_seconds: For how long a call that finds no API server is made again.
            call_seconds: What one call may take; of a stream, its beginning.
        """
        self.settings = settings
        self.namespace = settings.namespace
        self.patience_seconds = patience_seconds
        self.call_seconds = call_seconds
        self.calls = 0
        self._api: Any = None

    async def __aenter__(self) -> "Cluster":
        self._api = await _api_client(self.settings)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    def path(self, resource: str, name: str = "") -> str:
        """Return the URL path of `pods` or `kubeflow.org/v1/tfjobs`, or of one of them."""
        *group, kind = resource.split("/")
        base = f"/apis/{'/'.join(group)}" if group else "/api/v1"
        return f"{base}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    async def get(self, resource: str, name: str) -> Manifest:
        return await self._json("GET", self.path(resource, name))

    async def read(self, path: str) -> Manifest:
        """Read any path of the API, such as `/api/v1/nodes`."""
        return await self._json("GET", path)

    async def list(
        self, resource: str, labels: Mapping[str, str], fields: Mapping[str, str] | None = None
    ) -> Manifest:
        return await self._json("GET", self.path(resource), query=_selection(labels, fields))

    async def create(self, resource: str, body: Manifest, *, is_trial: bool = False) -> Manifest:
        """Create an object; with `is_trial` only ask whether the API server would take it."""
        query = {"dryRun": "All", "fieldValidation": "Strict"} if is_trial else {}
        return await self._json("POST", self.path(resource), query=query, body=body)

    async def patch(self, resource: str, name: str, body: Manifest) -> Manifest:
        """Merge into an object; with a `resourceVersion` inside, only if it is unchanged since."""
        return await self._json("PATCH", self.path(resource, name), body=body, kind=_MERGE_PATCH)

    async def apply(self, resource: str, body: Manifest, manager: str = "slipway") -> Manifest:
        """Server-side apply: create the object or bring what we own of it to this state."""
        path = self.path(resource, body["metadata"]["name"])
        query = {"fieldManager": manager, "force": "true"}
        return await self._json("PATCH", path, query=query, body=body, kind=_APPLY_PATCH)

    async def delete(self, resource: str, name: str, options: Manifest | None = None) -> bool:
        """Delete an object; False where it is not there, so deleted already."""
        with contextlib.suppress(NotFoundError):
            await self._json("DELETE", self.path(resource, name), body=options)
            return True
        return False

    async def watch(
        self,
        resource: str,
        labels: Mapping[str, str],
        version: str,
        fields: Mapping[str, str] | None = None,
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield (ADDED, MODIFIED or DELETED, object) since a list's version, for some minutes."""
        query = {"watch": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        query |= _selection(labels, fields)
        if version:
            query["resourceVersion"] = version
        async for line in self._lines(self.path(resource), query):
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise ServiceUnavailableError(f"watch of {resource}: {event['object']}")
            yield event["type"], event["object"]

    async def log(self, pod: str, since_seconds: int | None = None) -> AsyncIterator[str]:
        """Yield the lines of a pod as they come, each with its time (RFC 3339) in front."""
        query = {"follow": "true", "timestamps": "true"}
        if since_seconds is not None:
            query["sinceSeconds"] = str(max(1, since_seconds))
        async for line in self._lines(self.path("pods", f"{pod}/log"), query):
            yield line.decode(errors="replace").rstrip("\n")

    # --- inside ---

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        kind: str = "application/json",
    ) -> Manifest:
        timeout = aiohttp.ClientTimeout(total=self.call_seconds)
        until = time.monotonic() + self.patience_seconds
        while True:
            try:
                with our_errors(self.settings, f"{method} {path}"):
                    sending = self._send(method, path, query or {}, timeout, body=body, kind=kind)
                    return dict(json.loads(await (await sending).read() or b"{}"))
            except ServiceUnavailableError as error:
                if time.monotonic() > until:
                    raise
                log.warning("%s; trying again", error)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        timeout = aiohttp.ClientTimeout(
            sock_connect=self.call_seconds, sock_read=WATCH_SECONDS + 30
        )
        with our_errors(self.settings, f"GET {path}"):
            answer = await self._send("GET", path, query, timeout)
            try:
                async for line in answer.content:
                    yield line
            finally:
                answer.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        body: Manifest | None = None,
        kind: str = "application/json",
    ) -> Any:
        self.calls += 1
        headers = {"Content-Type": kind, "Accept": "application/json"}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"])
        answer = await self._api.rest_client.request(
            method,
            self._api.configuration.host + path,
            query_params=list(query.items()),
            headers=headers,
            body=body,
            _preload_content=False,
            _request_timeout=timeout,
        )
        if not 200 <= answer.status <= 299:
            raise ApiException(status=answer.status, reason=await answer.text())
        return answer


@contextlib.contextmanager
def our_errors(
    settings: ClusterConfig,
    call: str,
    refusal: type[Any] = ApiException,
    silence: tuple[type[Exception], ...] = (TimeoutError, aiohttp.ClientError, OSError),
) -> Iterator[None]:
    """Turn the errors of calls to a cluster into ours.

    Args:
        call: What is asked for, for messages.
        refusal: How the client says that the API server refuses; has `status`, `body`, `reason`.
        silence: How it says that there is no answer.
    """
    where = f"cluster '{settings.context or 'in-cluster'}', namespace '{settings.namespace}'"
    try:
        yield
    except refusal as error:
        said = str(error.body or error.reason)
        raise error_of(error.status or 0, said, where, call) from error
    except silence as error:
        said = str(error) or type(error).__name__
        raise ServiceUnavailableError(f"{where}: no answer to {call}: {said}") from error


def error_of(status: int, body: str, where: str, call: str) -> SlipwayError:
    """Return our error for an HTTP status of the API; its message says what to do."""
    reason = _message(body)
    said = f"{where}: {call}: {reason}"
    if status == 401:
        return ConfigError(
            [
                f"{where}: access denied (401): the token or certificate of the context "
                "is wrong or has expired; log in again and renew the kubeconfig"
            ]
        )
    if status == 403 and "exceeded quota" in reason:
        return QuotaError(said)
    if status == 403 and "is forbidden: unable to create new content" not in reason:
        return ForbiddenError([f"{said}. Give the service account the verbs of docker/kubernetes/"])
    if status == 404:
        return NotFoundError(said)
    if status == 409:
        return ConflictError(said)
    if status in (400, 413, 415, 422):
        return ConfigError([f"{said}. See the runtime file's 'pod' section and its template"])
    return ServiceUnavailableError(f"{said} ({status})")


def _message(text: str) -> str:
    with contextlib.suppress(ValueError):
        return str(json.loads(text).get("message", text))
    return text


def _selection(
    labels: Mapping[str, str], fields: Mapping[str, str] | None = None
) -> dict[str, str]:
    selectors = {"labelSelector": labels, "fieldSelector": fields or {}}
    return {
        key: ",".join(f"{k}={v}" for k, v in selector.items())
        for key, selector in selectors.items()
        if selector
    }


async def _api_client(settings: ClusterConfig) -> client.ApiClient:
    configuration = client.Configuration()
    configuration.connection_pool_maxsize = 0  # no limit: each pod's log holds a connection
    try:
        if settings.context or settings.kubeconfig:
            await config.load_kube_config(
                kubeconfig_path(settings),
                context=settings.context or None,
                client_configuration=configuration,
                persist_config=False,
            )
        else:
            config.load_incluster_config(client_configuration=configuration)
    except _UNREADABLE as error:
        raise ConfigError([client_problem(settings, error)]) from error
    api = client.ApiClient(configuration)
    if is_of_this_machine(configuration.host or ""):
        by_proxy = api.rest_client.pool_manager
        api.rest_client.pool_manager = aiohttp.ClientSession(
            connector=by_proxy.connector, read_bufsize=_EVENT_BYTES
        )
        by_proxy.detach()
    return api


def kubeconfig_path(settings: ClusterConfig) -> str:
    """Return the kubeconfig that a cluster's context is looked up in."""
    found = settings.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    return os.path.expanduser(found)  # noqa: PTH111 (KUBECONFIG may hold several paths)


def client_problem(settings: ClusterConfig, error: Exception) -> str:
    """Say why a cluster cannot be reached, and what to change."""
    if not settings.context and not settings.kubeconfig:
        return "clusters: no context, and this is not a pod of a cluster: name a context"
    path = kubeconfig_path(settings)
    try:
        merged: Any = KubeConfigMerger(path).config
        known = [str(context["name"]) for context in merged["contexts"]]
    except (*_UNREADABLE, LookupError, TypeError, AttributeError):
        return f"clusters: kubeconfig {path}: not readable: {error}"
    if not settings.context or settings.context in known:
        return f"clusters: context '{settings.context or 'current'}' of {path}: {error}"
    hint = did_you_mean(settings.context, known)
    return (
        f"clusters: context '{settings.context}': not in {path}{hint} "
        f"(known: {', '.join(known) or 'none'})"
    )
