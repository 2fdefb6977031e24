"""A cluster in this process: an API server that keeps objects, with nodes that run no containers.

What a pod does is a `Behaviour`. It serves lists, watches, logs, patches and conditional deletions
as a real one does, as far as our drivers use them; `StubApi` is for single answers.
"""

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from api_requests import has, merged, place_of, refusal, selector, verb_of

from contract.schema.cluster import ClusterConfig

NAMESPACE = "team"
NODE = {
    "metadata": {"name": "node", "labels": {}},
    "spec": {},
    "status": {
        "allocatable": {"cpu": "1000", "memory": "4Ti"},
        "capacity": {"cpu": "1000", "memory": "4Ti"},
    },
}
Pod = dict[str, Any]


@dataclass
class Collection:
    """The objects of one kind, and who watches them."""

    objects: dict[str, Any] = field(default_factory=dict)
    watchers: list[tuple[dict[str, str], "asyncio.Queue[Any]"]] = field(default_factory=list)


class SmallCluster:
    """Runs while entered. `behaviour` is awaited for each new pod, in the server's own loop.

    Attributes:
        calls: How often each method was called on each kind; `watch` and `log` by themselves.
        most_logs: Most logs that were open at one time.
        forbidden: What the account may not do: `verb resource`, such as `watch pods`.
    """

    def __init__(self, folder: Path, behaviour: Callable[["SmallCluster", Pod], Awaitable[None]]):
        self.calls: Counter[str] = Counter()
        self.open_logs = self.most_logs = 0
        self.forbidden: set[str] = set()
        self.reviews: list[Any] = []
        self._behaviour, self._folder = behaviour, folder
        self._kinds: dict[str, Collection] = {}
        self._logs: dict[str, list[str]] = {}
        self._version = 0
        self._log_news: dict[str, asyncio.Event] = {}  # by pod
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "SmallCluster":
        self._thread.start()
        self._runner = self._call(self._serve())
        self._keep("nodes", NODE)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def settings(self, **changes: Any) -> ClusterConfig:
        path = self._folder / f"kubeconfig-{id(self)}"
        path.write_text(yaml.safe_dump(self._config()))
        given = {"context": "one", "kubeconfig": str(path), "namespace": NAMESPACE}
        return ClusterConfig(**{**given, **changes})

    def add(self, resource: str, body: Any) -> None:
        """Put an object there, from the test's thread."""

        async def keep() -> None:
            self._keep(resource, body)

        self._call(keep())

    def objects(self, resource: str) -> list[Any]:
        """Return the objects of a kind as they are now."""
        return list(self._of(resource).objects.values())

    # --- for a behaviour, in the server's loop ---

    def change(self, resource: str, body: Any, **parts: Any) -> None:
        """Replace parts of an object that is still there, and tell those who watch."""
        name = body["metadata"]["name"]
        if (found := self._of(resource).objects.get(name)) is not None:
            self._keep(resource, {**found, **parts}, "MODIFIED")

    def run(self, pod: Pod) -> None:
        """Let a pod have a node and run."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = {"name": pod["spec"]["containers"][0]["name"], "state": {"running": {"at": now}}}
        self.change(
            "pods",
            pod,
            spec={**pod["spec"], "nodeName": "node"},
            status={"phase": "Running", "containerStatuses": [status]},
        )

    def end(self, pod: Pod, code: int = 0, message: str = "") -> None:
        """Let a pod's container end."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        state = {"terminated": {"exitCode": code, "finishedAt": now, "message": message}}
        status = {"name": pod["spec"]["containers"][0]["name"], "state": state}
        phase = "Failed" if code else "Succeeded"
        spec = {**pod["spec"], "nodeName": "node"}
        ended = {"phase": phase, "containerStatuses": [status]}
        self.change("pods", pod, spec=spec, status=ended)

    def say(self, pod: Pod, line: str, zone: tzinfo | None = UTC) -> None:
        """Let a pod log a line on a node of a time zone; without one the node itself says it."""
        now = f"{datetime.now(zone).isoformat().replace('+00:00', 'Z')} " if zone else ""
        self._logs.setdefault(pod["metadata"]["name"], []).append(f"{now}{line}\n")
        self._tell(pod["metadata"]["name"])

    # --- the server ---

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _serve(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        self._port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        return runner

    async def _stop(self) -> None:
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _config(self) -> Any:
        server = {"server": f"http://127.0.0.1:{self._port}"}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "one",
            "clusters": [{"name": "one", "cluster": server}],
            "users": [{"name": "one", "user": {"token": "x"}}],
            "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        }

    def _of(self, resource: str) -> Collection:
        return self._kinds.setdefault(resource, Collection())

    def _tell(self, pod: str) -> None:
        self._log_news.pop(pod, asyncio.Event()).set()

    def _keep(self, resource: str, body: Any, kind: str = "ADDED") -> Any:
        self._version += 1
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = {"uid": f"uid-{self._version}", "creationTimestamp": now, **body["metadata"]}
        metadata["resourceVersion"] = str(self._version)
        kept = {**body, "metadata": metadata}
        self._of(resource).objects[metadata["name"]] = kept
        self._spread(resource, kind, kept)
        return kept

    def _spread(self, resource: str, kind: str, body: Any) -> None:
        for labels, queue in self._of(resource).watchers:
            if has(body, labels):
                queue.put_nowait({"type": kind, "object": body})
        self._tell(body["metadata"]["name"])

    def _drop(self, resource: str, name: str) -> None:
        body = self._of(resource).objects.pop(name)
        self._spread(resource, "DELETED", body)
        uid = body["metadata"]["uid"]
        for kind, collection in self._kinds.items():
            for other in list(collection.objects.values()):
                owners = other["metadata"].get("ownerReferences") or ()
                if any(owner["uid"] == uid for owner in owners):
                    self._drop(kind, other["metadata"]["name"])

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        resource, name, part = place_of(request.path)
        if resource.endswith("selfsubjectaccessreviews"):
            return self._review(await request.json())
        verb = verb_of(request, name)
        self.calls[f"{verb} {part or resource}"] += 1
        right = f"{verb} {resource}/{part}" if part else f"{verb} {resource}"
        if right in self.forbidden:
            kind = f"{resource}/{part}" if part else resource
            words = (
                f'{resource} is forbidden: User "x" cannot {verb} resource "{kind}" in API group'
            )
            return refusal(403, f'{words} "" in the namespace "{NAMESPACE}"')
        if part == "log":
            return await self._log(request, name)
        if verb == "watch":
            return await self._watch(request, resource)
        sent = json.loads(await request.read() or b"null")
        return self._plain(verb, resource, name, sent, request)

    def _review(self, review: Any) -> web.Response:
        asked = review["spec"]["resourceAttributes"]
        self.reviews.append(asked)
        kind = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        allowed = f"{asked['verb']} {kind}" not in self.forbidden
        return web.json_response({**review, "status": {"allowed": allowed}}, status=201)

    def _plain(
        self, verb: str, resource: str, name: str, sent: Any, request: web.Request
    ) -> web.Response:
        objects = self._of(resource).objects
        if verb == "list":
            labels = selector(request.query.get("labelSelector", ""))
            items = [body for body in objects.values() if has(body, labels)]
            metadata = {"resourceVersion": str(self._version)}
            return web.json_response({"metadata": metadata, "items": items})
        if verb == "create":
            return self._create(resource, sent, request)
        if name not in objects:
            return refusal(404, f'{resource} "{name}" not found')
        found = objects[name]
        if verb == "get":
            return web.json_response(found)
        if verb == "delete":
            wanted = (sent or {}).get("preconditions") or {}
            if any(found["metadata"][key] != value for key, value in wanted.items()):
                return refusal(409, "changed")
            self._drop(resource, name)
            return web.json_response(found)
        version = sent.get("metadata", {}).get(
            "resourceVersion", found["metadata"]["resourceVersion"]
        )
        if version != found["metadata"]["resourceVersion"]:
            return refusal(409, "changed")
        return web.json_response(self._keep(resource, merged(found, sent), "MODIFIED"))

    def _create(self, resource: str, sent: Any, request: web.Request) -> web.Response:
        if sent["metadata"]["name"] in self._of(resource).objects:
            return refusal(409, "exists")
        if request.query.get("dryRun"):
            return web.json_response(sent, status=201)
        status = {"status": {"phase": "Pending"}} if resource == "pods" else {}
        kept = self._keep(resource, {**status, **sent})
        if resource == "pods":
            task = asyncio.ensure_future(self._behaviour(self, kept))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return web.json_response(kept, status=201)

    async def _watch(self, request: web.Request, resource: str) -> web.StreamResponse:
        labels = selector(request.query.get("labelSelector", ""))
        queue: asyncio.Queue[Any] = asyncio.Queue()
        since = int(request.query.get("resourceVersion") or 0)
        for body in self._of(resource).objects.values():
            if has(body, labels) and int(body["metadata"]["resourceVersion"]) > since:
                queue.put_nowait({"type": "MODIFIED", "object": body})
        entry = (labels, queue)
        self._of(resource).watchers.append(entry)
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            with contextlib.suppress(ConnectionResetError):
                while True:
                    await answer.write(json.dumps(await queue.get()).encode() + b"\n")
        finally:
            self._of(resource).watchers.remove(entry)
        return answer

    async def _log(self, request: web.Request, name: str) -> web.StreamResponse:
        answer = web.StreamResponse()
        with contextlib.suppress(ConnectionResetError):
            await answer.prepare(request)
        self.open_logs += 1
        self.most_logs = max(self.most_logs, self.open_logs)
        try:
            since = datetime.fromisoformat(request.query.get("sinceTime", "1970-01-01T00:00:00Z"))
            with contextlib.suppress(ConnectionResetError):
                async for line in self._lines(name, request.query.get("follow") == "true"):
                    if _is_since(line, since):
                        await answer.write(line.encode())
        finally:
            self.open_logs -= 1
        return answer

    async def _lines(self, name: str, is_followed: bool) -> AsyncIterator[str]:
        said = 0
        while True:
            news = self._log_news.setdefault(name, asyncio.Event())
            lines = self._logs.get(name, [])
            for line in lines[said:]:
                yield line
            said = len(lines)
            pod = self._of("pods").objects.get(name)
            phase = pod["status"]["phase"] if pod else "Failed"
            if not is_followed or phase in ("Succeeded", "Failed"):
                return
            await news.wait()


def _is_since(line: str, since: datetime) -> bool:
    """Tell whether a line was logged then or later; what a node itself says has no time."""
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(line.partition(" ")[0]) >= since
    return True
