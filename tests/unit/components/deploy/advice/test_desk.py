"""Counts as they are sent or queried, with a stand-in for Prometheus' HTTP API."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from components.deploy.advice.adviser import Adviser
from components.deploy.advice.desk import Desk
from components.deploy.advice.prometheus import Prometheus
from contract.errors import ServiceUnavailableError, UserError
from contract.schema.serving import DeployConfig

SENT = {
    "rollout": "test/podinfo",
    "canary_requests": 10,
    "canary_errors": 1,
    "canary_latency_buckets": {"5": 8, "10": 9, "+Inf": 10},
    "stable_requests": "100",
    "stable_errors": 0.0,
    "stable_latency_buckets": '{"5": 80, "+Inf": 100}',
}
VECTORS: dict[str, list[tuple[dict[str, str], str]]] = {
    'sum(requests{arm="canary"})': [({}, "10")],
    'requests{arm="stable"}': [({"pod": "a"}, "60"), ({"pod": "b"}, "40")],
    "nothing": [],
    '{__name__="buckets"}': [({"le": "0.005"}, "8"), ({"le": "+Inf"}, "10")],
    "unbounded": [({"pod": "a"}, "1")],
}


class Api(BaseHTTPRequestHandler):
    """Answers instant queries as Prometheus does."""

    def do_GET(self) -> None:
        query = parse_qs(urlparse(self.path).query)["query"][0]
        if query == "scalar(up)":
            data: dict[str, Any] = {"resultType": "scalar", "result": [0, "7"]}
        elif query in VECTORS:
            result = [{"metric": m, "value": [0, v]} for m, v in VECTORS[query]]
            data = {"resultType": "vector", "result": result}
        elif query == "up[5m]":
            data = {"resultType": "matrix", "result": []}
        else:
            self._answer(400, {"status": "error", "error": "parse error"})
            return
        self._answer(200, {"status": "success", "data": data})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield Prometheus(f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()


def desk(folder, prometheus=None) -> Desk:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    return Desk(Adviser(folder, DeployConfig()), prometheus, lambda: now)


def question(folder, prometheus=None, **changes):
    return desk(folder, prometheus)._question(SENT | changes)


def test_counts_are_taken_as_they_are_sent(tmp_path) -> None:
    found = question(tmp_path)
    assert (found.canary.requests, found.canary.errors, found.stable.requests) == (10, 1, 100)
    assert (found.canary.latency_bounds_ms, found.canary.latency_counts) == ((5.0, 10.0), (8, 9))
    assert (found.canary.latency_total, found.stable.latency_total) == (10, 100)


def test_queries_are_asked_of_prometheus(tmp_path, prometheus) -> None:
    found = question(
        tmp_path,
        prometheus,
        canary_requests='sum(requests{arm="canary"})',
        stable_requests='requests{arm="stable"}',
        canary_errors="nothing",
        stable_errors="scalar(up)",
        canary_latency_buckets='{__name__="buckets"}',
        stable_latency_buckets='{__name__="buckets"}',
        latency_unit="seconds",
    )
    assert (found.canary.requests, found.stable.requests) == (10, 100)
    assert (found.canary.errors, found.stable.errors) == (0, 7)
    assert (found.canary.latency_bounds_ms, found.canary.latency_counts) == ((5.0,), (8,))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rollout": ""}, "rollout: expected which rollout"),
        ({"canary_requests": -1}, "canary_requests: expected a count from 0 to 2.53, found -1"),
        ({"canary_requests": float("nan")}, "expected a count from 0"),
        ({"canary_requests": True}, "canary_requests: expected a count or a query, found True"),
        ({"canary_requests": ""}, "canary_requests: expected a count or a query"),
        ({"canary_latency_buckets": {"5": 1}}, "expected the bound '[+]Inf' among 5"),
        ({"canary_latency_buckets": {"x": 1}}, "expected counts by upper bound"),
        ({"canary_requests": "9" * 5000}, "expected a count from 0 to 2.53, found '9{99}$"),
        ({"canary_requests": 10**400}, "expected a count from 0"),
        ({"canary_latency_buckets": {"5": 1e999, "+Inf": 1}}, "expected a count from 0"),
        ({"canary_latency_buckets": {"5": -1, "+Inf": 1}}, "expected a count from 0"),
        ({"canary_latency_buckets": {"5": [], "+Inf": 1}}, "expected a count from 0"),
        ({"canary_latency_buckets": {"nan": 1, "+Inf": 1}}, "expected counts by upper bound"),
        ({"rollout": "\ud800"}, "rollout: expected text"),
        ({"step": "a" * 501}, "step: 501 characters, expected at most 500"),
        ({"latency_unit": []}, "expected milliseconds or seconds, found "),
        ({"latency_unit": "hours"}, "expected milliseconds or seconds, found 'hours'"),
        ({"canary_requests": "((("}, "Prometheus refused '[(]{3}': parse error"),
        ({"canary_requests": "up[5m]"}, "expected an instant vector or a scalar, found matrix"),
        ({"canary_latency_buckets": "unbounded"}, "expected series with the label 'le'"),
    ],
)
def test_what_is_no_count_is_refused(tmp_path, prometheus, changes, words) -> None:
    with pytest.raises(UserError, match=words):
        question(tmp_path, prometheus, **changes)


def test_a_count_that_is_missing_is_never_taken_for_none(tmp_path) -> None:
    given = {name: value for name, value in SENT.items() if "latency" not in name}
    with pytest.raises(UserError, match="canary_latency_buckets: .* unmeasured is never a pass"):
        desk(tmp_path)._question(given)


def test_a_query_needs_a_prometheus_that_answers(tmp_path) -> None:
    with pytest.raises(UserError, match="started without --prometheus"):
        question(tmp_path, None, canary_requests="up")
    with pytest.raises(
        ServiceUnavailableError, match="Prometheus at http://127.0.0.1:9: no answer"
    ):
        question(tmp_path, Prometheus("http://127.0.0.1:9"), canary_requests="up")
