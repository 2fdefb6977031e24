"""An API server in this process: it answers what it was told to, and keeps what it was asked."""

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import yaml

from contract.schema.cluster import ClusterConfig

NAMESPACE = "team"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: Any

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") == "true"


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # or the kernel lets many that come at once wait for a second


class StubApi:
    """`answers` are bodies by method and path, each the last or a list of those to come.

    A body with a `code` is an error; what is not in `answers` is not found. A watch says nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.requests: list[Request] = []
        self._is_over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._kubeconfig = folder / "kubeconfig"
        self._kubeconfig.write_text(yaml.safe_dump(self._config()))

    def __enter__(self) -> "StubApi":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()

    def cluster(self, **changes: Any) -> ClusterConfig:
        given = {"context": "one", "kubeconfig": str(self._kubeconfig), "namespace": NAMESPACE}
        return ClusterConfig(**{**given, **changes})

    def say(self, method: str, resource: str, body: Any, name: str = "") -> None:
        """Answer so from now on; `resource` as in `pods` or `kubeflow.org/v1/tfjobs`."""
        self.answers[method, path_of(resource, name)] = body

    def asked(self, method: str, resource: str = "", name: str = "") -> list[Request]:
        """Return the requests of a method, or of it and one path, watches aside."""
        path = path_of(resource, name) if resource else None
        return [
            r
            for r in self.requests
            if r.method == method and path in (None, r.path) and not r.is_watch
        ]

    def _answer(self, request: Request) -> Any:
        self.requests.append(request)
        absent = {"kind": "Status", "code": 404, "message": f"{request.path} not found"}
        found = self.answers.get((request.method, request.path), absent)
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found

    def _config(self) -> Any:
        url = f"http://127.0.0.1:{self._server.server_port}"
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "one",
            "clusters": [{"name": "one", "cluster": {"server": url}}],
            "users": [{"name": "one", "user": {"token": "x"}}],
            "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlparse(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(self.command, url.path, query, json.loads(sent or b"null"))
                if request.is_watch:
                    api.requests.append(request)
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.flush()
                    api._is_over.wait(30)
                    return
                self._reply(api._answer(request))

            def do_POST(self) -> None:
                self.do_GET()

            def do_PATCH(self) -> None:
                self.do_GET()

            def do_DELETE(self) -> None:
                self.do_GET()

            def _reply(self, body: Any) -> None:
                text = json.dumps(body).encode()
                self.send_response(body.get("code", 200))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def path_of(resource: str, name: str = "") -> str:
    *group, kind = resource.split("/")
    base = f"/apis/{'/'.join(group)}" if group else "/api/v1"
    if resource == "nodes":
        return f"{base}/nodes"
    return f"{base}/namespaces/{NAMESPACE}/{kind}" + (f"/{name}" if name else "")


def listed(*items: Any) -> dict[str, Any]:
    """Return a list as the API has it."""
    return {"metadata": {"resourceVersion": "1"}, "items": list(items)}


def pod(name: str = "job-chief-0", **changes: Any) -> dict[str, Any]:
    """Return a pod as the API has it: attempt 1's, waiting for a node."""
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": "7", "labels": {}}
    metadata |= {"annotations": {"slipway/attempt": "1"}, "namespace": NAMESPACE}
    resources = {"requests": {"cpu": "1"}}
    given = {
        "metadata": metadata | changes.pop("metadata", {}),
        "spec": {"containers": [{"name": "main", "image": "i:1", "resources": resources}]},
        "status": {"phase": "Pending"},
    }
    return {**given, **changes}
