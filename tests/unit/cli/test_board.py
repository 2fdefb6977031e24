"""Progress lines."""

import io

from rich.console import Console

from cli.board import RUNNING, Board

STAGES = [["ingest"], ["train", "evaluate"], ["bless"]]


def board(expected: dict[str, float] | None = None) -> tuple[Board, io.StringIO]:
    shown = io.StringIO()
    return Board("digits", STAGES, expected, Console(file=shown, width=200)), shown


def test_without_a_terminal_each_change_is_one_line() -> None:
    lines, shown = board()
    with lines:
        for _ in range(3):
            lines.update("ingest", RUNNING, note="step 1")
        lines.update("ingest", "done", seconds=2.5, note="1,797 rows")
    said = shown.getvalue().splitlines()
    assert said[0] == "digits"
    assert [line.split("s  ", 1)[1] for line in said[1:]] == [
        "ingest: running: step 1",
        "ingest: done in 2.5 s: 1,797 rows",
    ]


def test_what_is_left_counts_the_longer_of_two_side_by_side() -> None:
    lines, _ = board({"ingest": 10.0, "train": 30.0, "evaluate": 31.0, "bless": 5.0})
    assert lines.remaining_seconds() == 46.0
    lines.update("ingest", "done", seconds=9.0)
    lines.update("train", "done", seconds=1.0)
    lines.update("evaluate", "done", seconds=1.0)
    assert lines.remaining_seconds() == 5.0


def test_what_has_run_already_is_taken_off() -> None:
    lines, _ = board({"ingest": 10.0, "train": 0.0, "evaluate": 0.0, "bless": 0.0})
    lines.update("ingest", RUNNING, seconds=4.0)
    left = lines.remaining_seconds()
    assert left is not None
    assert 5.5 < left <= 6.0


def test_nothing_is_promised_about_a_task_that_never_ran() -> None:
    lines, _ = board({"ingest": 10.0})
    assert lines.remaining_seconds() is None


def test_a_terminal_shows_every_task() -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=120, force_terminal=True)
    with Board("digits", STAGES, {"ingest": 3.0}, console) as lines:
        lines.update("ingest", "done", seconds=2.0, note="all [1,797] rows")
        lines.update("bless", "refused", note="too few")
    said = shown.getvalue()
    assert all(task in said for task in ("ingest", "train", "evaluate", "bless"))
    assert "all [1,797] rows" in said


def test_a_long_note_leaves_names_and_times_readable_at_80_columns() -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=80, force_terminal=True)
    with Board("digits", STAGES, {"ingest": 3.0}, console) as lines:
        lines.update("ingest", "done", seconds=2.0, note="long " * 40)
    said = shown.getvalue()
    assert all(task in said for task in ("ingest", "train", "evaluate", "bless"))
    assert "2.0 s" in said
    assert "long long" in said
