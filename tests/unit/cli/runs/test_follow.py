"""A DAG run on the board."""

from pathlib import Path
from typing import Any

import pytest

from cli.board import Board
from cli.runs.follow import expected_seconds, show, stages_of
from contract.layout import RunLayout


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
