"""Airflow's REST API as the front door uses it, against a stand-in of its HTTP side."""

import getpass
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.rollouts.orders import approve
from cli.runs.airflow_api import ENDED_NOTE, AirflowClient, airflow_password
from contract.errors import ConflictError, NotFoundError, ServiceUnavailableError, UserError
from contract.records.stack import Stack


class Airflow(ThreadingHTTPServer):
    """Answers as Airflow 3.3 does; a token is good for `token_uses` requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.token_uses = 100
        self.waiting_run = "running"  # its state
        self.tokens: dict[str, int] = {}
        self.seen: list[tuple[str, str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Airflow

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/auth/token":
            self._log_in(body)
        elif self._is_known():
            self.server.seen.append(("POST", self.path, body))
            is_taken = body.get("dag_run_id") == "taken"
            self._answer(409 if is_taken else 200, {"detail": "there is a run of this id"})

    def do_GET(self) -> None:
        if not self._is_known():
            return
        if "/assets" in self.path:
            uris = ["slipway://census/labels2", "slipway://census/labels"]
            self._answer(200, {"assets": [{"id": 7 + n, "uri": u} for n, u in enumerate(uris)]})
        elif self.path.startswith("/api/v2/dags/digits/dagRuns?"):
            runs = {"over": "success", "manual__1+00:00": self.server.waiting_run}
            listed = [{"dag_run_id": name, "state": state} for name, state in runs.items()]
            self._answer(200, {"dag_runs": listed})
        elif "/dagRuns/manual__1+00:00/taskInstances" in self.path:
            names = {"dag_id": "digits", "dag_run_id": "manual__1+00:00", "map_index": -1}
            states = {"canary": "success", "approve": "awaiting_input"}
            tasks = [{**names, "task_id": task, "state": state} for task, state in states.items()]
            self._answer(200, {"task_instances": tasks})
        elif self.path == "/api/v2/dags/digits/dagRuns/absent":
            self._answer(404, {"detail": "no such run"})
        elif self.path.startswith("/api/v2/dags/digits/dagRuns/"):
            self._answer(200, {"state": "success" if self.path.endswith("over") else "running"})
        elif self.path == "/api/v2/dags/locked":
            self._answer(500, {"detail": "database is locked"})
        elif self.path == "/api/v2/dags/digits":
            self._answer(200, {"dag_id": "digits"})
        else:
            self._answer(404, {"detail": "no such DAG"})

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self._is_known():
            self.server.seen.append(("PATCH", self.path, body))
            self._answer(200, {})

    def _log_in(self, body: dict[str, str]) -> None:
        if body["password"] != "right":
            self._answer(401, {"detail": "no"})
            return
        token = f"token{len(self.server.tokens)}"
        self.server.tokens[token] = self.server.token_uses
        self._answer(201, {"access_token": token})

    def _is_known(self) -> bool:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        uses = self.server.tokens.get(token, 0)
        self.server.tokens[token] = uses - 1
        if uses <= 0:
            self._answer(401, {"detail": "old token"})
        return uses > 0

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def airflow() -> Iterator[Airflow]:
    server = Airflow()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_run_is_triggered_with_a_null_logical_date(airflow: Airflow) -> None:
    with AirflowClient(airflow.url, "admin", "right") as client:
        client.trigger("digits", "r1", {"overrides": {"train.steps": 5}})
    body = {"dag_run_id": "r1", "logical_date": None, "conf": {"overrides": {"train.steps": 5}}}
    assert airflow.seen == [("POST", "/api/v2/dags/digits/dagRuns", body)]


def test_an_old_token_is_replaced(airflow: Airflow) -> None:
    airflow.token_uses = 1
    with AirflowClient(airflow.url, "admin", "right") as client:
        assert client.dag("digits") == client.dag("digits") == {"dag_id": "digits"}
    assert len([token for token in airflow.tokens if token]) == 2


def test_a_wrong_password_is_a_clear_error_without_it(airflow: Airflow) -> None:
    with (
        AirflowClient(airflow.url, "admin", "wrong-secret") as client,
        pytest.raises(UserError, match="refused the login of 'admin'") as caught,
    ):
        client.dag("digits")
    assert "wrong-secret" not in str(caught.value)


def test_airflows_refusals_keep_their_kind_and_words(airflow: Airflow) -> None:
    with AirflowClient(airflow.url, "admin", "right") as client:
        with pytest.raises(NotFoundError, match="no such DAG"):
            client.dag("digitz")
        with pytest.raises(ConflictError, match="there is a run of this id"):
            client.trigger("digits", "taken", {})
        with pytest.raises(ServiceUnavailableError, match="database is locked"):
            client.dag("locked")


def test_an_event_is_announced_with_the_assets_own_id(airflow: Airflow) -> None:
    with AirflowClient(airflow.url, "admin", "right") as client:
        client.announce("slipway://census/labels", {"rows": 3})
    body = {"asset_id": 8, "extra": {"rows": 3}}
    assert airflow.seen == [("POST", "/api/v2/assets/events", body)]


def test_an_asset_that_airflow_has_not_read_is_named(airflow: Airflow) -> None:
    with (
        AirflowClient(airflow.url, "admin", "right") as client,
        pytest.raises(NotFoundError, match="no asset 'slipway://digits/labels'"),
    ):
        client.announce("slipway://digits/labels", {})


def test_nobody_there_says_how_to_start_it() -> None:
    with (
        AirflowClient("http://127.0.0.1:9", "admin", "right") as client,
        pytest.raises(ServiceUnavailableError, match="slipway up"),
    ):
        client.dag("digits")


def test_the_password_is_read_from_airflows_own_file(tmp_path: Path) -> None:
    (tmp_path / "passwords.json").write_text('{"admin": "s3cret"}')
    stack = Stack(
        root="/r", airflow_user="admin", airflow_password_file=str(tmp_path / "passwords.json")
    )
    assert airflow_password(stack) == "s3cret"


@pytest.fixture
def stack(airflow: Airflow, tmp_path: Path) -> Stack:
    """The stack file of a machine whose Airflow is the stand-in."""
    home = tmp_path / "slipway-home"
    home.mkdir(exist_ok=True)
    (home / "passwords.json").write_text('{"admin": "right"}')
    found = Stack(
        root=str(tmp_path / "root"),
        airflow_url=airflow.url,
        airflow_user="admin",
        airflow_password_file=str(home / "passwords.json"),
    )
    found.write(home / "stack.json")
    return found


@pytest.mark.usefixtures("stack")
def test_cancel_ends_a_run_and_leaves_who_did_it(airflow: Airflow) -> None:
    result = CliRunner().invoke(app, ["cancel", "digits", "manual__2026-01-01T00:00:00+00:00"])
    assert result.exit_code == 0, result.stderr
    assert "it was running" in result.stderr
    ((method, path, body),) = airflow.seen
    assert (method, body["state"]) == ("PATCH", "failed")
    assert path == "/api/v2/dags/digits/dagRuns/manual__2026-01-01T00%3A00%3A00%2B00%3A00"
    assert body["note"] == f"{ENDED_NOTE} ({getpass.getuser()}, 'slipway cancel')"


@pytest.mark.usefixtures("stack")
def test_cancel_refuses_a_run_that_is_over_and_a_local_one(airflow: Airflow) -> None:
    over = CliRunner().invoke(app, ["cancel", "digits", "over"])
    assert over.exit_code == 2
    assert "run over has ended already (success)" in over.stderr
    absent = CliRunner().invoke(app, ["cancel", "digits", "absent"])
    assert absent.exit_code == 2
    assert "Airflow has no run 'absent'; 'slipway status digits' lists its runs" in absent.stderr
    local = CliRunner().invoke(app, ["cancel", "digits", "local-1"])
    assert local.exit_code == 2
    assert "a local run ends with Ctrl-C" in local.stderr
    assert airflow.seen == []


def test_approve_answers_the_run_that_waits_for_a_person(airflow: Airflow, stack: Stack) -> None:
    order = approve(stack, "digits")
    assert order.words.startswith("run manual__1+00:00 is approved: its version, which passed")
    assert airflow.seen == []  # nothing is done before a person has agreed
    order.carry_out()
    path = "/api/v2/dags/digits/dagRuns/manual__1%2B00%3A00/taskInstances/approve/-1/hitlDetails"
    assert airflow.seen == [("PATCH", path, {"chosen_options": ["Approve"]})]


def test_approve_without_a_run_that_waits_is_refused(airflow: Airflow, stack: Stack) -> None:
    airflow.waiting_run = "success"
    with pytest.raises(NotFoundError, match="no run waits for approval in Airflow"):
        approve(stack, "digits")
