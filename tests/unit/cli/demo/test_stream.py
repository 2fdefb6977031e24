"""The label demo's callers: each row is sent once, and what fails is told."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cli.demo.stream import Stream
from contract.errors import ServiceUnavailableError
from contract.layout import PipelineLayout
from contract.records.stack import Stack
from contract.records.traffic import Arm, TrafficPlan


class Server(ThreadingHTTPServer):
    """A data plane that notes what it is sent."""

    heard: list[tuple[str, Any]]
    status: int


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            made.heard.append((self.path, body))
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    made = Server(("127.0.0.1", 0), Handler)
    made.heard, made.status = [], 200
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def stream(server: Server, root: Path, count: int) -> Stream:
    stack = Stack(root=str(root), data_plane_url=f"http://127.0.0.1:{server.server_address[1]}")
    layout = PipelineLayout(root, "digits")
    return Stream(stack, layout, ({"image": n} for n in range(count)))


def test_each_row_is_sent_once(server: Server, tmp_path: Path) -> None:
    callers = stream(server, tmp_path, 100_000)  # some may be answered before anybody waits
    callers.await_answers(3, 60)
    callers.close()
    rows = [{"instances": [{"image": n}]} for n in range(len(server.heard))]
    assert server.heard == [("/v1/models/digits:predict", row) for row in rows]
    assert (callers.answered, callers.failed) == (len(rows), 0)
    assert len(rows) >= 3


def test_answers_that_do_not_come_are_told(server: Server, tmp_path: Path) -> None:
    server.status = 503
    callers = stream(server, tmp_path, 2)
    with pytest.raises(ServiceUnavailableError, match="expected 2 more answers in 60 s, and 2"):
        callers.await_answers(2, 60)
    callers.close()
    assert (callers.answered, callers.failed) == (0, 2)


def test_rows_are_sent_faster_while_a_canary_is_judged(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.demo.stream.ROWS_PER_SECOND", 1e-6)  # one in eleven days
    arms = (
        Arm(name="stable", version=1, weight_percent=50),
        Arm(name="canary", version=2, weight_percent=50),
    )
    TrafficPlan(pipeline="digits", arms=arms).write(PipelineLayout(tmp_path, "digits").traffic_plan)
    callers = stream(server, tmp_path, 3)
    until = time.monotonic() + 60
    while callers.answered < 3 and time.monotonic() < until:
        time.sleep(0.01)
    callers.close()
    assert callers.answered == 3
