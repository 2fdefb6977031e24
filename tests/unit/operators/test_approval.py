"""The answer of a person: kept as a record, and told where the run is looked up."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from airflow.sdk.exceptions import DownstreamTasksSkipped
from releases import leave_stage

from contract.layout import RunLayout
from contract.records.traffic import Approval, DeployRecord
from operators.approval import ApproveOperator
from operators.component import ComponentOperator, PipelineRef

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def operator(tmp_path: Path) -> ApproveOperator:
    pipeline = PipelineRef("digits", str(tmp_path))
    following = ComponentOperator(task_id="promote", pipeline=pipeline)
    made = ApproveOperator(task_id="approve", pipeline=pipeline)
    made.downstream_task_ids = {"promote"}
    made.get_direct_relatives = lambda **_: [following]  # type: ignore[method-assign]
    passed = DeployRecord(stage="canary", outcome="passed", version=3)
    leave_stage(pipeline.run("run-1"), "canary", passed)
    return made


def answered(operator: ApproveOperator, option: str, user: dict[str, str] | None = None) -> None:
    """Let the task go on after an answer, as Airflow does."""
    task: Any = SimpleNamespace(run_id="run-1", map_index=-1, xcom_push=lambda **_: None)
    event = {
        "chosen_options": [option],
        "params_input": {},
        "responded_at": MOMENT,
        "responded_by_user": user,
    }
    operator.execute_complete({"ti": task, "task": operator}, event)


def approval(operator: ApproveOperator) -> Approval:
    return Approval.read(run_of(operator).approval)


def run_of(operator: ApproveOperator) -> RunLayout:
    return operator.pipeline.run("run-1")


def test_a_yes_is_kept_with_who_gave_it(operator: ApproveOperator) -> None:
    answered(operator, "Approve", {"id": "7", "name": "ada"})
    kept = approval(operator)
    assert (kept.version, kept.is_approved, kept.who) == (3, True, "ada")


def test_a_no_is_kept_and_skips_the_promotion(operator: ApproveOperator) -> None:
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        answered(operator, "Reject", {"id": "7", "name": "ada"})
    assert list(skipped.value.tasks) == ["promote"]
    kept = approval(operator)
    assert (kept.version, kept.is_approved, kept.in_words) == (3, False, "ada rejected it")


def test_a_no_is_told_as_a_refusal(operator: ApproveOperator) -> None:
    with structlog.testing.capture_logs() as logged, pytest.raises(DownstreamTasksSkipped):
        answered(operator, "Reject")
    assert "digits refused at approve (run run-1)" in logged[0]["event"]
    assert "version 3 passed its canary, but somebody rejected it" in logged[0]["event"]


def test_a_later_answer_replaces_the_first(operator: ApproveOperator) -> None:
    with pytest.raises(DownstreamTasksSkipped):
        answered(operator, "Reject")
    answered(operator, "Approve")
    assert approval(operator).is_approved


def test_an_answer_about_another_version_is_none(operator: ApproveOperator) -> None:
    answered(operator, "Approve")
    path = run_of(operator).approval
    assert Approval.of(path, 4) is None
    assert Approval.of(path.with_name("nothing.json"), 3) is None
