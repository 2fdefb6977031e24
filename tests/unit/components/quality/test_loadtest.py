"""The load generator against a small real HTTP server on the loopback."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from components.quality.loadtest import Load, run_load
from contract.errors import DataError
from contract.records.package import LoadReport


class _Service(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[Any] = []
        self.headers: list[str | None] = []
        self.pause_seconds = 0.0
        self.fail_every = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/models/tiny:predict"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.bodies.append(json.loads(body))
        self.server.headers.append(self.headers.get("authorization"))
        time.sleep(self.server.pause_seconds)
        every = self.server.fail_every
        is_failure = every and len(self.server.bodies) % every == 0
        answer = b'{"error": "on purpose"}' if is_failure else b'{"predictions": [1]}'
        self.send_response(503 if is_failure else 200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[_Service]:
    server = _Service()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_every_request_is_counted_and_rows_go_round(service: _Service) -> None:
    report = run_load(Load(service.url, [{"x": 1}, {"x": 2}], seconds=0.3, concurrency=2))
    assert report.requests == len(service.bodies) > 4
    assert report.errors == 0
    seen = [body["instances"] for body in service.bodies]
    assert {row[0]["x"] for row in seen} == {1, 2}
    assert report.requests_per_second == pytest.approx(report.requests / report.seconds)


def test_failures_are_counted_and_the_first_is_shown(service: _Service) -> None:
    service.fail_every = 2
    report = run_load(Load(service.url, [{"x": 1}], seconds=0.3, concurrency=1))
    assert report.errors == report.requests // 2
    assert report.first_error == 'status 503: {"error": "on purpose"}'


def test_nobody_there_is_an_error_of_each_request(service: _Service) -> None:
    service.shutdown()
    service.server_close()
    report = run_load(Load(service.url, [{"x": 1}], seconds=0.1, concurrency=1))
    assert report.errors == report.requests > 0
    assert "ClientConnectorError" in report.first_error


def test_latency_percentiles_see_the_servers_pause(service: _Service) -> None:
    service.pause_seconds = 0.05
    report = run_load(Load(service.url, [{"x": 1}], seconds=0.4, concurrency=2))
    assert 50.0 <= report.p50_ms <= report.p95_ms <= report.p99_ms
    taken = report.percentiles_ms
    assert [taken[one] for one in ("50", "95", "99")] == [
        report.p50_ms, report.p95_ms, report.p99_ms
    ]  # fmt: skip
    assert list(taken.values()) == sorted(taken.values())


def test_it_ends_with_the_most_requests_or_with_its_time(service: _Service) -> None:
    report = run_load(Load(service.url, [{"x": 1}], 30.0, concurrency=4, most_requests=25))
    assert report.requests == len(service.bodies) == 25
    assert report.seconds < 15.0
    service.pause_seconds = 0.05
    report = run_load(Load(service.url, [{"x": 1}], 0.3, concurrency=1, most_requests=25))
    assert 1 <= report.requests <= 6


def test_replay_keeps_its_rate(service: _Service) -> None:
    report = run_load(Load(service.url, [{"x": 1}], seconds=1.0, concurrency=4, rate=40.0))
    assert report.requests == 40
    assert report.seconds >= 0.97


def test_a_stalled_server_is_charged_for_those_who_waited(service: _Service) -> None:
    """One caller, due every 10 ms, each answer takes 50 ms: the last waits for all before it."""
    service.pause_seconds = 0.05
    report = run_load(Load(service.url, [{"x": 1}], seconds=0.1, concurrency=1, rate=100.0))
    assert report.requests == 10
    assert report.p99_ms > 300.0


def test_headers_are_sent(service: _Service) -> None:
    load = Load(service.url, [{"x": 1}], 0.1, 1, headers={"authorization": "Bearer t"})
    run_load(load)
    assert set(service.headers) == {"Bearer t"}


def test_progress_ends_with_the_whole_report(service: _Service) -> None:
    seen: list[LoadReport] = []
    report = run_load(Load(service.url, [{"x": 1}], seconds=0.8, concurrency=1), seen.append)
    assert len(seen) >= 2
    assert seen[-1] == report
    assert seen[0].requests < report.requests


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no rows to send"):
        run_load(Load("http://127.0.0.1:1/", [], seconds=0.1))
