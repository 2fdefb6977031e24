"""What Envoys of this machine count is read through the agent, and nothing else of them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

import pytest
from fastapi.testclient import TestClient

from serving.agent.backends.envoy_metrics import envoy_metrics
from serving.traffic.envoy.admin import EnvoyAdmin


class Admin(BaseHTTPRequestHandler):
    """An Envoy's admin interface that says what it was asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"asked {self.path}".encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def metrics(tmp_path: Path) -> Iterator[TestClient]:
    with UnixStreamServer(str(tmp_path / "envoy.sock"), Admin) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        names = {"envoy": "envoy.sock", "envoy-2": "none.sock"}
        admins = {name: EnvoyAdmin(tmp_path / file) for name, file in names.items()}
        yield TestClient(envoy_metrics(admins))
        server.shutdown()


def test_one_that_serves_shows_all_its_counters(metrics: TestClient) -> None:
    found = metrics.get("/envoy")
    assert (found.status_code, found.text) == (200, "asked /stats/prometheus?filter=")
    assert found.headers["content-type"].startswith("text/plain")


def test_one_that_does_not_answer_is_told(metrics: TestClient) -> None:
    found = metrics.get("/envoy-2")
    assert (found.status_code, "does not answer" in found.text) == (503, True)


@pytest.mark.parametrize("path", ["/other", "/envoy/config_dump", "/..%2fconfig_dump", "/"])
def test_nothing_else_is_there(metrics: TestClient, path: str) -> None:
    assert metrics.get(path).status_code == 404
