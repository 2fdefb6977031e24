"""The client against a scripted HTTP server: what it says to each kind of answer."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.runs.agent_client import AgentClient, PlanConflictError
from contract.errors import NotFoundError, ServiceUnavailableError, SlipwayError, UserError
from contract.records.traffic import Arm, TrafficPlan

PLAN = TrafficPlan(
    pipeline="digits",
    generation=3,
    arms=(Arm(name="stable", version=1, weight_percent=100),),
    author="run r1",
    reason="because",
)
Answer = tuple[int, object]
Script = Callable[[list[Answer]], AgentClient]


@pytest.fixture
def received() -> list[tuple[str, str, bytes]]:
    return []


@pytest.fixture
def answering(received) -> Iterator[Script]:
    """Start a server that gives these answers in order, the last one for ever."""
    servers: list[ThreadingHTTPServer] = []

    def start(answers: list[Answer], port: int = 0) -> AgentClient:
        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                received.append((self.path, self.headers["authorization"], body))
                status, content = answers.pop(0) if len(answers) > 1 else answers[0]
                text = content if isinstance(content, str) else json.dumps(content)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def do_PUT(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        return AgentClient(url, "secret", patience_seconds=0.5)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def as_json(plan: TrafficPlan) -> dict[str, object]:
    return plan.model_dump(mode="json")


def test_it_reads_a_plan_with_its_token(answering, received):
    assert answering([(200, as_json(PLAN))]).plan("digits") == PLAN
    assert received[0][:2] == ("/v1/pipelines/digits/plan", "Bearer secret")


def test_it_proposes_a_plan_and_returns_it_as_stored(answering, received):
    stored = PLAN.model_copy(update={"generation": 4})
    assert answering([(200, as_json(stored))]).propose(PLAN) == stored
    assert TrafficPlan.model_validate_json(received[0][2]) == PLAN


def test_a_conflict_carries_the_plan_in_force(answering):
    current = PLAN.model_copy(update={"generation": 9, "author": "ada", "reason": "a test"})
    client = answering([(409, {"error": "generation", "plan": as_json(current)})])
    with pytest.raises(PlanConflictError, match="generation 9 by ada.*expected generation 3") as e:
        client.propose(PLAN)
    assert e.value.current == current


def test_a_conflict_with_ones_own_plan_is_a_lost_answer(answering):
    stored = PLAN.model_copy(update={"generation": 4})
    client = answering([(503, {}), (409, {"error": "generation", "plan": as_json(stored)})])
    assert client.propose(PLAN) == stored


def test_an_agent_that_restarts_is_asked_again(answering, received):
    client = answering([(503, {"error": "starting"}), (502, ""), (200, as_json(PLAN))])
    assert client.plan("digits") == PLAN
    assert len(received) == 3


def test_a_refused_connection_is_tried_again_until_the_agent_is_back(answering):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = AgentClient(f"http://127.0.0.1:{port}", "secret", patience_seconds=10.0)
    timer = threading.Timer(0.4, answering, args=([(200, as_json(PLAN))], port))
    timer.start()
    assert client.plan("digits") == PLAN
    timer.join()


def test_nobody_there_is_said_with_the_address():
    client = AgentClient("http://127.0.0.1:1", "secret", patience_seconds=0.2)
    with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:1: no answer within 0\.2 s"):
        client.observation("digits")


def test_a_wrong_token_is_a_users_error_and_not_shown(answering):
    with pytest.raises(UserError, match="refused this token") as error:
        answering([(401, {"error": "no"})]).plan("digits")
    assert "secret" not in str(error.value)


def test_a_refused_plan_says_why(answering):
    with pytest.raises(UserError, match="refused this: version 9 is not kept"):
        answering([(422, {"error": "version 9 is not kept"})]).propose(PLAN)


def test_an_unknown_pipeline_is_not_found(answering):
    with pytest.raises(NotFoundError, match="no such pipeline"):
        answering([(404, {"error": "no such pipeline"})]).plan("digits")


def test_an_odd_status_is_shown_with_its_text(answering):
    with pytest.raises(SlipwayError, match="status 500: oops"):
        answering([(500, "oops")]).plan("digits")


def test_an_answer_that_is_no_plan_is_said(answering):
    with pytest.raises(SlipwayError, match="expected a TrafficPlan"):
        answering([(200, {"arms": 3})]).plan("digits")


def test_its_repr_hides_the_token(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("secret\n")
    client = AgentClient.with_token_file("http://127.0.0.1:1", file)
    assert "secret" not in repr(client)


def test_a_missing_token_file_is_said(tmp_path: Path):
    message = "none: cannot read the token: No such file.*start it: 'slipway up'"
    with pytest.raises(NotFoundError, match=message):
        AgentClient.with_token_file("http://127.0.0.1:1", tmp_path / "none")
