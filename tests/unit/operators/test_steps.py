from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from airflow.sdk import Asset
from airflow.sdk.exceptions import DownstreamTasksSkipped

from contract.records.evaluation import BlessRecord
from contract.records.record import Record, Result
from contract.records.traffic import DeployRecord
from contract.records.training import TrainingEnded
from operators.component import ComponentOperator, PipelineRef
from operators.steps import (
    BlessOperator,
    CanaryOperator,
    EvaluateOperator,
    PromoteOperator,
)

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


class Airflow:
    """What a task sees of Airflow: its context, and what it leaves there."""

    def __init__(self, train_state: str | None = None) -> None:
        self.events: list[tuple[Asset, dict[str, Any]]] = []
        self.train_state = train_state

    def context(self, operator: ComponentOperator) -> dict[str, Any]:
        events = SimpleNamespace(add=lambda asset, extra: self.events.append((asset, extra)))
        states = {"run-1": {"train": self.train_state}}
        task_instance = SimpleNamespace(
            run_id="run-1",
            map_index=-1,
            xcom_push=lambda **_: None,
            get_task_states=lambda **_: states,
        )
        return {
            "ti": task_instance,
            "task": operator,
            "outlet_events": {getattr(operator, "alias", None): events},
        }


def conclude(operator: ComponentOperator, record: Record) -> tuple[list[str], Airflow]:
    """Return what the operator says of a result, and the Airflow it was in."""
    airflow = Airflow()
    with structlog.testing.capture_logs() as logged:
        operator.conclude(result_of(operator, record), airflow.context(operator))
    return [line["event"] for line in logged], airflow


def result_of(operator: ComponentOperator, record: Record) -> Result:
    return Result(
        step=operator.task_id,
        pipeline="digits",
        run_id="run-1",
        attempt=1,
        started_at=MOMENT,
        seconds=1.0,
        inputs={},
        detail=record.model_dump(mode="json"),
    )


def make(operator: type[ComponentOperator], step: str, **more: Any) -> ComponentOperator:
    return operator(task_id=step, pipeline=PipelineRef("digits", "/nowhere"), **more)


def bless(is_blessed: bool) -> BlessRecord:
    return BlessRecord(
        is_blessed=is_blessed,
        candidate="candidate",
        step=100,
        champion_version=None,
        reasons=("accuracy 0.91 is below 0.93",),
    )


def deploy(stage: str, outcome: str) -> DeployRecord:
    return DeployRecord.model_validate(
        {"stage": stage, "outcome": outcome, "version": 7, "reasons": ["said the judge"]}
    )


def test_a_blessed_model_goes_on_in_silence() -> None:
    said, _ = conclude(make(BlessOperator, "bless"), bless(is_blessed=True))
    assert said == []


def test_a_refused_model_skips_the_rest_and_says_why() -> None:
    operator = make(BlessOperator, "bless")
    with structlog.testing.capture_logs() as logged, pytest.raises(DownstreamTasksSkipped):
        skipping_conclude(operator, bless(is_blessed=False))
    assert logged[-1]["event"].splitlines()[:2] == [
        "Slipway: digits refused at bless (run run-1)",
        "accuracy 0.91 is below 0.93",
    ]


@pytest.mark.parametrize("outcome", ["passed", "first"])
def test_a_canary_that_passed_goes_on(outcome: str) -> None:
    said, _ = conclude(make(CanaryOperator, "canary"), deploy("canary", outcome))
    assert said == []


@pytest.mark.parametrize(
    ("outcome", "word"),
    [("rolled_back", "rolled back"), ("inconclusive", "rolled back"), ("refused", "refused")],
)
def test_a_canary_that_did_not_pass_skips_the_rest_and_says_why(outcome: str, word: str) -> None:
    operator = make(CanaryOperator, "canary")
    with structlog.testing.capture_logs() as logged, pytest.raises(DownstreamTasksSkipped):
        skipping_conclude(operator, deploy("canary", outcome))
    assert f"digits {word} at canary" in logged[-1]["event"]
    assert "said the judge" in logged[-1]["event"]


def skipping_conclude(operator: ComponentOperator, record: Record) -> None:
    """Conclude outside of a DAG: the one task after it is a stand-in."""
    following = make(ComponentOperator, "optimize")
    operator.get_flat_relatives = lambda **_: [following]  # type: ignore[method-assign]
    operator.conclude(result_of(operator, record), Airflow().context(operator))


@pytest.mark.parametrize("outcome", ["promoted", "first"])
def test_a_promoted_version_is_an_event_of_the_models_asset(outcome: str) -> None:
    model = Asset("slipway://digits/model")
    _, airflow = conclude(make(PromoteOperator, "promote", model=model), deploy("promote", outcome))
    assert airflow.events == [(model, {"version": 7, "run_id": "run-1"})]


@pytest.mark.parametrize("outcome", ["refused", "rolled_back"])
def test_a_promotion_that_deployed_nothing_is_no_event(outcome: str) -> None:
    operator = make(PromoteOperator, "promote", model=Asset("slipway://digits/model"))
    said, airflow = conclude(operator, deploy("promote", outcome))
    assert airflow.events == []
    assert "said the judge" in said[-1]


def ended(has_succeeded: bool) -> TrainingEnded:
    return TrainingEnded(has_succeeded=has_succeeded, last_step=5, reason="", ended_at=MOMENT)


@pytest.mark.parametrize("state", ["failed", "upstream_failed"])
def test_evaluation_hears_that_training_failed_for_good(state: str, tmp_path: Path) -> None:
    pipeline = PipelineRef("digits", str(tmp_path))
    operator = EvaluateOperator(task_id="evaluate", pipeline=pipeline)
    operator.watch(pipeline.run("run-1"), watching(operator, state))
    end = TrainingEnded.read(pipeline.run("run-1").training_ended)
    assert (end.has_succeeded, end.reason) == (False, f"task 'train' is {state}")


@pytest.mark.parametrize("state", [None, "running", "up_for_retry", "success"])
def test_evaluation_waits_while_training_may_go_on(state: str | None, tmp_path: Path) -> None:
    pipeline = PipelineRef("digits", str(tmp_path))
    operator = EvaluateOperator(task_id="evaluate", pipeline=pipeline)
    operator.watch(pipeline.run("run-1"), watching(operator, state))
    assert not pipeline.run("run-1").training_ended.exists()


def test_evaluation_never_overwrites_trainings_own_word(tmp_path: Path) -> None:
    pipeline = PipelineRef("digits", str(tmp_path))
    operator = EvaluateOperator(task_id="evaluate", pipeline=pipeline)
    ended(has_succeeded=True).write(pipeline.run("run-1").training_ended)
    operator.watch(pipeline.run("run-1"), watching(operator, "failed"))
    assert TrainingEnded.read(pipeline.run("run-1").training_ended).has_succeeded


def watching(operator: EvaluateOperator, state: str | None) -> dict[str, Any]:
    return Airflow(state).context(operator)
