"""A cluster's Kubernetes API: a client on plain objects as the API has them."""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import aiohttp
import yaml
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.config.config_exception import ConfigException
from kubernetes_asyncio.config.kube_config import KubeConfigMerger

from contract.addresses import is_of_this_machine
from contract.clients.cluster_errors import our_errors
from contract.errors import ConfigError, NotFoundError, ServiceUnavailableError, did_you_mean
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


class _Body(NamedTuple):
    """What a call sends, and in which form."""

    content: Manifest | None
    kind: str = "application/json"


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
        return await self._json("POST", self.path(resource), query=query, body=_Body(body))

    async def ask(self, path: str, question: Manifest) -> Manifest:
        """Send a question that makes no object, such as a SelfSubjectAccessReview."""
        return await self._json("POST", path, body=_Body(question))

    async def patch(self, resource: str, name: str, body: Manifest) -> Manifest:
        """Merge into an object; with a `resourceVersion` inside, only if it is unchanged since."""
        return await self._json("PATCH", self.path(resource, name), body=_Body(body, _MERGE_PATCH))

    async def apply(self, resource: str, body: Manifest, manager: str = "slipway") -> Manifest:
        """Server-side apply: create the object or bring what we own of it to this state."""
        path = self.path(resource, body["metadata"]["name"])
        query = {"fieldManager": manager, "force": "true"}
        return await self._json("PATCH", path, query=query, body=_Body(body, _APPLY_PATCH))

    async def delete(self, resource: str, name: str, options: Manifest | None = None) -> bool:
        """Delete an object; False where it is not there, so deleted already."""
        with contextlib.suppress(NotFoundError):
            await self._json("DELETE", self.path(resource, name), body=_Body(options))
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

    async def log(
        self,
        pod: str,
        since_seconds: int | None = None,
        *,
        since_time: str = "",
        is_followed: bool = True,
    ) -> AsyncIterator[str]:
        """Yield the lines of a pod, each with its time (RFC 3339) in front.

        Of one that is too long, such as all of a progress bar, only the beginning is there.

        Args:
            since_seconds: From how long ago, by this machine's clock.
            since_time: From which second on, by the node's clock as earlier lines have it.
            is_followed: Whether to wait for those to come, until its container ends.
        """
        query = {"follow": "true" if is_followed else "false", "timestamps": "true"}
        if since_time:
            query["sinceTime"] = since_time
        elif since_seconds is not None:
            query["sinceSeconds"] = str(max(1, since_seconds))
        async for line in self._lines(self.path("pods", f"{pod}/log"), query, _cut_lines):
            yield line.decode(errors="replace").rstrip("\n")

    # --- inside ---

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: _Body | None = None,
    ) -> Manifest:
        timeout = aiohttp.ClientTimeout(total=self.call_seconds)
        until = time.monotonic() + self.patience_seconds
        while True:
            try:
                with our_errors(self.settings, f"{method} {path}"):
                    sending = self._send(method, path, query or {}, timeout, body)
                    return dict(json.loads(await (await sending).read() or b"{}"))
            except ServiceUnavailableError as error:
                if time.monotonic() > until:
                    raise
                log.warning("%s; trying again", error)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _lines(
        self,
        path: str,
        query: Mapping[str, str],
        split: Callable[[aiohttp.StreamReader], AsyncIterator[bytes]] = aiter,
    ) -> AsyncIterator[bytes]:
        timeout = aiohttp.ClientTimeout(
            sock_connect=self.call_seconds, sock_read=WATCH_SECONDS + 30
        )
        with our_errors(self.settings, f"GET {path}"):
            answer = await self._send("GET", path, query, timeout)
            try:
                async for line in split(answer.content):
                    yield line
            finally:
                answer.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        body: _Body | None = None,
    ) -> Any:
        self.calls += 1
        body = body or _Body(None)
        headers = {"Content-Type": body.kind, "Accept": "application/json"}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"])
        answer = await self._api.rest_client.request(
            method,
            self._api.configuration.host + path,
            query_params=list(query.items()),
            headers=headers,
            body=body.content,
            _preload_content=False,
            _request_timeout=timeout,
        )
        if not 200 <= answer.status <= 299:
            raise ApiException(status=answer.status, reason=await answer.text())
        return answer


async def _cut_lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield lines; of one with more than `_EVENT_BYTES`, which aiohttp refuses, the beginning."""
    kept, is_cut = b"", False
    async for data in content.iter_any():
        *ends, rest = data.split(b"\n")
        for end in ends:
            if not is_cut:
                yield kept + end
            kept, is_cut = b"", False
        kept += b"" if is_cut else rest
        if len(kept) > _EVENT_BYTES:
            yield kept
            kept, is_cut = b"", True
    if kept:
        yield kept


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
