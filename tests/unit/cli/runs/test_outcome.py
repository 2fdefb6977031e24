"""How a run ended, from its records."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.board import Board
from cli.runs.local_run import LocalRun
from cli.runs.outcome import ended_before, ending_of, failed, failure, refusal_of
from contract.command import StepCommand
from contract.layout import RunLayout
from contract.records.evaluation import BlessRecord
from contract.records.record import Failure, Record, Result
from contract.records.traffic import DeployRecord


@pytest.fixture
def run(tmp_path: Path) -> RunLayout:
    return RunLayout(tmp_path, "digits", "r1")


def leave(run: RunLayout, step: str, record: Record) -> None:
    Result(
        step=step,
        pipeline=run.pipeline,
        run_id=run.run_id,
        attempt=1,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=1.0,
        inputs={},
        detail=record.model_dump(mode="json"),
    ).write(run.result(step))


def blessing(*, is_blessed: bool) -> BlessRecord:
    return BlessRecord(
        is_blessed=is_blessed,
        candidate="candidate",
        step=100,
        champion_version=None,
        reasons=("accuracy 0.91 is below 0.93",),
    )


def test_a_run_that_has_not_got_far_has_no_ending(run: RunLayout) -> None:
    assert ending_of(run) is None
    leave(run, "bless", blessing(is_blessed=True))
    assert ending_of(run) is None


def test_a_refused_model_is_a_result_and_no_error(run: RunLayout) -> None:
    leave(run, "bless", blessing(is_blessed=False))
    ending = refusal_of(run)
    assert ending is not None
    assert (ending.exit_code, ending.outcome) == (0, "not blessed")
    assert ending.reasons == ("accuracy 0.91 is below 0.93",)


def test_a_rolled_back_canary_ends_the_run(run: RunLayout) -> None:
    leave(run, "bless", blessing(is_blessed=True))
    leave(run, "canary", DeployRecord(stage="canary", outcome="rolled_back", version=3))
    ending = ending_of(run)
    assert ending is not None
    assert (ending.exit_code, ending.outcome, ending.version) == (0, "rolled_back", 3)


@pytest.mark.parametrize("outcome", ["passed", "first"])
def test_after_a_good_canary_the_promotion_decides(run: RunLayout, outcome: str) -> None:
    leave(run, "canary", DeployRecord.model_validate(_record("canary", outcome)))
    assert refusal_of(run) is None
    leave(run, "promote", DeployRecord.model_validate(_record("promote", "promoted")))
    ending = ending_of(run)
    assert ending is not None
    assert ending.outcome == "promoted"


class Done(LocalRun):
    """A local run whose steps are all done: no process is started."""

    @property
    def stages(self) -> list[tuple[str, ...]]:
        return []


def test_a_resumed_run_that_does_not_deploy_says_that_its_promotion_is_of_an_earlier_call(
    run: RunLayout, tmp_path: Path
) -> None:
    leave(run, "canary", DeployRecord.model_validate(_record("canary", "first")))
    assert ended_before(run) is None
    promoted = {**_record("promote", "promoted"), "reasons": ("version 3 has all traffic",)}
    leave(run, "promote", DeployRecord.model_validate(promoted))
    command = StepCommand("ingest", run.pipeline, run.run_id, str(tmp_path))
    said = {
        is_deploying: Done(command, tmp_path, {}, is_deploying).follow(Board("", [])).reasons
        for is_deploying in (True, False)
    }
    assert said[True] == ("version 3 has all traffic",)
    first, second = said[False]
    assert first == "version 3 has all traffic"
    assert re.fullmatch(
        r"decided on 20\d\d-\d\d-\d\d at \d\d:\d\d and not again; 'slipway status digits' shows "
        "which version is in service now",
        second,
    )


def _record(stage: str, outcome: str) -> dict[str, object]:
    return {"stage": stage, "outcome": outcome, "version": 3}


@pytest.mark.parametrize(("ended_with", "exit_code"), [(1, 1), (2, 2), (137, 1), (-9, 1), (0, 1)])
def test_a_failed_step_may_be_retried_unless_the_user_is_wrong(
    ended_with: int, exit_code: int
) -> None:
    assert failure("train", ended_with).exit_code == exit_code


def test_a_failure_shows_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("".join(f"line {n}\n\n" for n in range(100)))
    assert failure("train", 2, log).log[-1] == "line 99"
    assert len(failure("train", 2, log).log) == 15


def test_of_two_steps_that_failed_the_first_to_fail_is_named(run: RunLayout) -> None:
    """Training and evaluation run side by side; the second may fail because the first did."""
    for step, second in {"train": 2, "evaluate": 1}.items():
        run.attempts(step).mkdir(parents=True)
        (run.attempts(step) / "1").touch()
        Failure(
            step=step,
            attempt=1,
            exit_code=2,
            reason=f"{step} failed",
            failed_at=datetime(2026, 1, 1, second=second, tzinfo=UTC),
        ).write(run.failure(step))
    ending = failed(run)
    assert ending is not None
    assert (ending.failed_step, ending.reasons) == ("evaluate", ("evaluate failed",))
