"""Where a pipeline stands, by what its runs have left."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from cli.services import artifact_root
from cli.standing import render, standing_of
from contract.layout import PipelineLayout
from contract.records.record import Failure


def leave_failure(layout: PipelineLayout, attempt: int) -> None:
    run = layout.run("r1")
    run.attempts("train").mkdir(parents=True, exist_ok=True)
    (run.attempts("train") / str(attempt)).touch()
    Failure(
        step="train",
        attempt=attempt,
        exit_code=2,
        reason="train: the loss is [nan]",
        failed_at=datetime(2026, 1, 1, tzinfo=UTC),
    ).write(run.failure("train"))


@pytest.fixture
def layout(tmp_path: Path) -> PipelineLayout:
    del tmp_path
    return PipelineLayout(artifact_root(), "digits")


def test_a_failed_run_is_shown_with_its_step_and_reason(layout: PipelineLayout) -> None:
    leave_failure(layout, 1)
    standing = standing_of("digits", 5)
    (run,) = standing["runs"]
    assert (run["outcome"], run["failed_step"]) == ("failed", "train")
    console = Console(width=200)
    with console.capture() as shown:
        console.print(*render(standing), sep="\n")
    assert "r1 failed in 'train': train: the loss is [nan]" in shown.get()


def test_a_run_whose_step_is_tried_again_has_not_failed(layout: PipelineLayout) -> None:
    leave_failure(layout, 1)
    (layout.run("r1").attempts("train") / "2").touch()
    (run,) = standing_of("digits", 5)["runs"]
    assert (run["outcome"], run["failed_step"]) == ("unfinished", "")
