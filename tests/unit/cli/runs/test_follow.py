"""A DAG run on the board."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cli.board import WAITING, Board
from cli.runs import follow
from cli.runs.airflow_api import AirflowClient
from cli.runs.follow import Follower, expected_seconds, show, stages_of
from contract.layout import RunLayout
from contract.records.record import Failure
from contract.records.traffic import Arm, TrafficPlan


def task(name: str, *downstream: str) -> dict[str, Any]:
    return {"task_id": name, "downstream_task_ids": list(downstream)}


def instance(state: str | None, **more: Any) -> dict[str, Any]:
    blank = {"task_id": "data.ingest", "start_date": None, "duration": None, "try_number": 1}
    return {**blank, "max_tries": 2, "state": state, **more}


@pytest.fixture
def run(tmp_path: Path) -> RunLayout:
    return RunLayout(tmp_path, "digits", "r1")


@pytest.fixture
def board() -> Board:
    return Board("", [["data.ingest"]])


def test_tasks_stand_after_all_that_they_wait_for() -> None:
    tasks = [
        task("package", "canary"),
        task("start", "ingest", "package"),
        task("canary"),
        task("ingest", "evaluate", "train"),
        task("train", "bless"),
        task("evaluate", "bless"),
        task("bless", "package"),
    ]
    assert stages_of(tasks) == [
        ["start"],
        ["ingest"],
        ["train", "evaluate"],
        ["bless"],
        ["package"],
        ["canary"],
    ]


def test_expected_seconds_are_the_median_of_what_succeeded() -> None:
    done = [instance("success", duration=d) for d in (1.0, 9.0, 2.0)]
    assert expected_seconds([*done, instance("failed", duration=100.0)]) == {"data.ingest": 2.0}


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (None, "waiting"),
        ("queued", "waiting"),
        ("running", "running"),
        ("deferred", "running"),
        ("up_for_retry", "retrying"),
        ("success", "done"),
        ("failed", "failed"),
        ("upstream_failed", "skipped"),
        ("skipped", "skipped"),
    ],
)
def test_airflows_states_in_our_words(
    state: str | None, shown: str, board: Board, run: RunLayout
) -> None:
    show(board, instance(state), run)
    assert board.rows["data.ingest"].state == shown


def test_a_retry_says_which_attempt_it_is(board: Board, run: RunLayout) -> None:
    show(board, instance("running", try_number=2), run)
    assert board.rows["data.ingest"].note == "attempt 2 of 3"


def test_somebodys_approval_is_asked_for_in_words(board: Board, run: RunLayout) -> None:
    show(board, instance("awaiting_input"), run)
    assert "approval" in board.rows["data.ingest"].note


class FailedRun(BaseHTTPRequestHandler):
    """Answers as Airflow does of a run whose task `ingest` has failed."""

    def do_POST(self) -> None:
        self._answer(201, {"access_token": "token"})

    def do_GET(self) -> None:
        run = "/api/v2/dags/digits/dagRuns/r1"
        failed = instance("failed", duration=1.0, end_date="2026-01-01T12:00:00Z")
        answers = {
            run: {"state": "failed"},
            f"{run}/taskInstances": {
                "task_instances": [{**failed, "dag_id": "digits", "dag_run_id": "r1"}]
            },
            f"{run}/taskInstances/data.ingest/logs/1": {
                "content": [{"event": "the log says: exit code 2"}]
            },
        }
        self._answer(200, answers[self.path.partition("?")[0]])

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class QueuedRun(FailedRun):
    """Answers that the run waits for another one, once, and then as above."""

    has_waited = False

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.endswith("/dagRuns"):
            QueuedRun.has_waited = True
            others = {"r1": "queued", "r0": "running"}
            listed = [{"dag_run_id": name, "state": state} for name, state in others.items()]
            self._answer(200, {"dag_runs": listed})
        elif QueuedRun.has_waited or not path.endswith("/r1"):
            super().do_GET()
        else:
            self._answer(200, {"state": "queued"})


@contextmanager
def client_of(handler: type[BaseHTTPRequestHandler]) -> Iterator[AirflowClient]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with AirflowClient(f"http://127.0.0.1:{server.server_port}", "me", "secret") as client:
            yield client
        server.shutdown()


@pytest.fixture
def airflow() -> Iterator[AirflowClient]:
    with client_of(FailedRun) as client:
        yield client


class Noting(Board):
    """A board that keeps what a waiting task is said to wait for."""

    said: str | None = None

    def update(
        self, task: str, state: str, seconds: float | None = None, note: str | None = None
    ) -> None:
        self.said = note if state == WAITING else self.said
        super().update(task, state, seconds, note)


@pytest.mark.parametrize(
    ("percent", "needs"),
    [
        (0, ""),
        (5, ": canary version 3 at 5 %: judged on requests; 'slipway replay digits --rate 200' "),
    ],
)
def test_a_queued_run_names_the_run_before_it_and_what_that_needs(
    percent: int, needs: str, run: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(QueuedRun, "has_waited", False)
    arms = [Arm(name="stable", version=1, weight_percent=100 - percent)]
    arms += [Arm(name="canary", version=3, weight_percent=percent)] if percent else []
    TrafficPlan(pipeline="digits", arms=tuple(arms)).write(run.of_pipeline.traffic_plan)
    board = Noting("", [["data.ingest"]])
    with client_of(QueuedRun) as airflow:
        Follower(airflow, "digits", "r1").follow(board, run)
    assert board.said is not None
    assert board.said.startswith(f"waits for run r0{needs}")
    assert bool(needs) is ("sends some" in board.said)


@pytest.mark.parametrize(
    ("recorded_step", "exit_code", "expected"),
    [("ingest", 2, 2), ("ingest", 1, 1), ("validate", 2, 1), ("", 0, 1)],
)
def test_the_exit_code_of_a_failed_run_is_the_records_whatever_its_log_says(
    recorded_step: str,
    exit_code: int,
    expected: int,
    airflow: AirflowClient,
    board: Board,
    run: RunLayout,
) -> None:
    if recorded_step:
        Failure(
            step=recorded_step,
            attempt=0,
            exit_code=exit_code,
            reason="x",
            failed_at=datetime.now(UTC),
        ).write(run.failure(recorded_step))
    ending = Follower(airflow, "digits", "r1").follow(board, run)
    assert (ending.exit_code, ending.failed_step) == (expected, "ingest")
    assert ending.log == ("the log says: exit code 2",)
