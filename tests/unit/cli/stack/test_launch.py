"""When a program that `slipway up` starts counts as healthy."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from cli.board import Board
from cli.stack.launch import _Awaited, services_of
from cli.stack.ports import choose_ports
from cli.stack.stack import DataPlaneOptions, Plan
from serving.supervisord.configuration import Program
from serving.supervisord.supervision import Supervisor


class Backend(BaseHTTPRequestHandler):
    """A traffic backend's program; its status is set by the test."""

    status = 503

    def do_GET(self) -> None:
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def backend() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/ready"
    server.shutdown()
    server.server_close()


def answers(url: str) -> bool:
    return httpx.get(url).is_success


def test_the_program_of_any_traffic_backend_is_awaited_as_it_asks(
    tmp_path: Path, backend: str
) -> None:
    plan = Plan(tmp_path, choose_ports(tmp_path / "ports.json", {}), False, DataPlaneOptions())
    programs = [
        Program("toy", ("toy",), tmp_path / "toy.log", is_ready=lambda: answers(backend)),
        Program("silent", ("silent",), tmp_path / "silent.log"),
    ]
    board = Board("services", [["toy", "silent"]])
    awaited = _Awaited(plan, Supervisor(tmp_path / "supervisor"), board)
    awaited.expect(programs)
    with httpx.Client(trust_env=False) as client:
        assert awaited.probes["silent"](client)
        Backend.status = 503
        assert not awaited.probes["toy"](client)
        Backend.status = 200
        assert awaited.probes["toy"](client)


def test_the_board_is_drawn_before_there_are_secrets(tmp_path: Path) -> None:
    plan = Plan(tmp_path, choose_ports(tmp_path / "ports.json", {}), True, DataPlaneOptions())
    base, airflow = services_of(plan)
    assert base == ["mlflow", "envoy", "envoy-2", "agent", "airflow-database"]
    assert "airflow-scheduler" in airflow
    assert not Path(plan.stack.tracking_password_file).exists()
