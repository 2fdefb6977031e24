"""The note of a DAG run, written through Airflow's REST API."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from contract.layout import RunLayout
from operators.run_note import note_text, write_note

RUN_ID = "manual__2026-01-01T00:00:00+00:00"


class Api:
    """Airflow's API: grants a token, and keeps what it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[tuple[str, str, str, dict[str, str]]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                token = self.headers.get("authorization", "")
                api.asked.append((self.command, self.path, token, body))
                content = b'{"access_token": "t0ken"}'
                self.send_response(api.status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_POST(self) -> None:
                self.answer()

            def do_PATCH(self) -> None:
                self.answer()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def api() -> Iterator[Api]:
    found = Api()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def run(tmp_path: Path) -> RunLayout:
    run = RunLayout(tmp_path, "digits", RUN_ID)
    run.tracking("run").parent.mkdir(parents=True)
    run.tracking("run").write_text("abc123")
    return run


@pytest.fixture
def environment(api: Api, tmp_path: Path) -> dict[str, str]:
    passwords = tmp_path / "passwords.json"
    passwords.write_text('{"admin": "s3cret"}')
    return {
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{api.server.server_port}",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "MLFLOW_TRACKING_URI": "http://mlflow/",
        "SLIPWAY_DATA_PLANE_URL": "http://plane",
    }


def test_the_note_has_the_outcome_its_reasons_and_links(
    api: Api, run: RunLayout, environment: dict[str, str]
) -> None:
    write_note(run, "promoted", ("version 3 has all traffic",), 3, environment)
    login, told = api.asked
    assert login[1:] == ("/auth/token", "", {"username": "admin", "password": "s3cret"})
    assert told == (
        "PATCH",
        "/api/v2/dags/digits/dagRuns/manual__2026-01-01T00%3A00%3A00%2B00%3A00?update_mask=note",
        "Bearer t0ken",
        {
            "note": "**promoted**  ([MLflow](http://mlflow/#/runs/abc123) · [version 3 in service]"
            "(http://plane/v1/models/digits/versions/3))\n\nversion 3 has all traffic"
        },
    )


def test_the_note_of_a_run_that_came_to_its_trial_leads_to_the_page_of_the_rollout(
    run: RunLayout,
) -> None:
    environment = {"SLIPWAY_AGENT_URL": "http://agent"}
    assert "rollout" not in note_text(run, "not blessed", (), None, environment)
    run.step("canary").mkdir(parents=True)
    assert note_text(run, "rolled back", (), 3, environment) == (
        "**rolled back**  ([rollout](http://agent/rollouts/digits))"
    )


def test_a_long_reason_is_cut_to_what_airflow_takes(run: RunLayout) -> None:
    text = note_text(run, "not blessed", ("x" * 2000,), None, {})
    assert len(text) == 1000
    assert text.startswith("**not blessed**\n\nxxx")
    assert text.endswith(" …")


def test_without_a_login_nothing_is_asked(
    api: Api, run: RunLayout, environment: dict[str, str]
) -> None:
    for name in [name for name in environment if name.startswith("AIRFLOW")]:
        write_note(run, "promoted", (), 3, {**environment, name: ""})
    assert api.asked == []


def test_an_airflow_that_refuses_fails_nothing(
    api: Api, run: RunLayout, environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    api.status = 403
    write_note(run, "promoted", (), 3, environment)
    assert "the run's note was not written: HTTPStatusError" in caplog.text
    Path(environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]).write_text("{}")
    write_note(run, "promoted", (), 3, environment)
    assert "KeyError" in caplog.text
