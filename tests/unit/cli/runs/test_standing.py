"""Where a pipeline stands, by what its runs have left."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from releases import leave_package, leave_stage
from rich.console import Console

from cli.runs.run_states import Airflow, state_of
from cli.runs.standing import in_words, render, standing_of
from cli.stack.stack_file import artifact_root
from contract.layout import PipelineLayout, RunLayout
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.records.record import EndedBy, Failure
from contract.records.traffic import (
    Approval,
    Arm,
    BadVersion,
    DeployRecord,
    Hold,
    Shadow,
    TrafficPlan,
    Withdrawal,
)
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.storage import ORIGIN, exclusive_lock


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
    assert (run["outcome"], run["failed_step"]) == ("interrupted", "")


def keep_version(layout: PipelineLayout, version: int) -> None:
    folder = layout.version(version)
    (folder / "model").mkdir(parents=True)
    PackageManifest(
        pipeline="digits",
        version=version,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        digest="sha256:0",
        inputs={"x": InputSpec(dtype="float32")},
        heads={"digit": HeadConfig(task="multiclass_classification", classes=("0", "1"))},
        serve=ServeConfig(),
        provenance=Provenance(run_id="r1", git_commit="", data_digests={}, versions={}),
    ).write(folder / "package.json")


def test_a_version_shows_what_it_is_in_the_plan(layout: PipelineLayout) -> None:
    for version in (1, 2, 3):
        keep_version(layout, version)
    TrafficPlan(
        pipeline="digits",
        generation=3,
        arms=(
            Arm(name="stable", version=1, weight_percent=95),
            Arm(name="canary", version=3, weight_percent=5),
        ),
        bad=(BadVersion(version=2, author="ada"),),
    ).write(layout.traffic_plan)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(*render(standing_of("digits", 5)), sep="\n")
    lines = [line for line in shown.get().splitlines() if "KiB" in line]
    roles = {line.split()[0]: line.partition("KiB")[2].strip() for line in lines}
    assert roles == {"1": "champion", "2": "bad: ada rolled back from it", "3": "canary"}


def test_a_shadow_is_no_part_of_the_100_percent(layout: PipelineLayout) -> None:
    plan = TrafficPlan(
        pipeline="digits",
        generation=3,
        arms=(Arm(name="stable", version=1, weight_percent=100),),
        shadow=Shadow(version=2, percent=100),
    )
    assert in_words(plan) == (
        "[bold]digits[/]: stable version 1 100 %; 100 % is copied to shadow version 2 (plan 3)"
    )


# --- what a run that has not ended is doing -------------------------------------------------------


@pytest.fixture
def begun(layout: PipelineLayout) -> RunLayout:
    run = layout.run("r1")
    run.frozen_pipeline.mkdir(parents=True)
    return run


def outcome(airflow: Airflow | None = None, plan: TrafficPlan | None = None) -> tuple[str, str]:
    run = PipelineLayout(artifact_root(), "digits").run("r1")
    ending = state_of(run, plan or TrafficPlan(pipeline="digits"), airflow or Airflow())
    return ending.outcome, "; ".join(ending.reasons)


def test_a_run_whose_process_is_gone_is_interrupted(begun: RunLayout) -> None:
    assert outcome() == ("interrupted", "its process ended without a message")


def test_a_run_that_another_machine_has_begun_is_not_called_interrupted(begun: RunLayout) -> None:
    (begun.root / ORIGIN).write_text("s3://bucket/models")
    tokens = {step: begun.attempts(step) / "1" for step in ("ingest", "validate")}
    for second, (step, content) in enumerate((("ingest", "4711"), ("validate", ""))):
        tokens[step].parent.mkdir(parents=True)
        tokens[step].write_text(content)  # a copy of another machine's is empty
        os.utime(tokens[step], (second, second))
    reason = "another machine has begun 'validate' and not told how it ended"
    assert outcome() == ("elsewhere", reason)
    os.utime(tokens["ingest"], (2, 2))
    assert outcome()[0] == "interrupted"


def test_a_run_that_somebody_ended_says_who(begun: RunLayout) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    EndedBy(who="ada", is_person=True, ended_at=moment).write(begun.ended_by)
    assert outcome() == ("ended by a person", "ada interrupted it")
    EndedBy(who="SIGTERM", is_person=False, ended_at=moment).write(begun.ended_by)
    assert outcome() == ("interrupted", "by SIGTERM")


@pytest.mark.parametrize(
    ("step", "expected"),
    [("train", ("running", "'train' is running")), ("canary", ("in canary", ""))],
)
def test_a_run_with_a_live_process_is_running(
    begun: RunLayout, step: str, expected: tuple[str, str]
) -> None:
    begun.attempts(step).mkdir(parents=True)
    with exclusive_lock(begun.process_lock(step)):
        assert outcome() == expected
    assert outcome()[0] == "interrupted"


def test_a_run_whose_version_is_on_trial_is_in_canary(begun: RunLayout) -> None:
    arms = (
        Arm(name="stable", version=1, weight_percent=95),
        Arm(name="canary", version=3, weight_percent=5),
    )
    plan = TrafficPlan(pipeline="digits", arms=arms, author="run r1")
    running = Airflow({"r1": "running"}, {"r1": "r1"})
    assert outcome(running, plan) == ("in canary", "version 3 at 5 %")
    assert outcome(running, plan.model_copy(update={"author": "run r0"})) == ("running", "")


def test_a_run_that_airflow_has_queued_says_what_it_waits_for(layout: PipelineLayout) -> None:
    waiting = {"r1": "queued", "r0": "running"}
    ids = {"r1": "r1", "r0": "r0"}
    assert outcome(Airflow(waiting, ids)) == ("queued", "waits for run r0")
    assert outcome(Airflow({"r1": "queued"}, ids)) == ("queued", "waits for Airflow's scheduler")


def test_a_queued_run_says_that_the_one_before_it_needs_requests(layout: PipelineLayout) -> None:
    arms = (
        Arm(name="stable", version=1, weight_percent=95),
        Arm(name="canary", version=3, weight_percent=5),
    )
    plan = TrafficPlan(pipeline="digits", arms=arms, author="run r0")
    airflow = Airflow({"r1": "queued", "r0": "running"}, {"r1": "r1", "r0": "r0"})
    assert outcome(airflow, plan) == (
        "queued",
        "waits for run r0; canary version 3 at 5 %: judged on requests; "
        "'slipway replay digits --rate 200' sends some",
    )


def test_a_run_that_somebody_ended_in_airflow_has_not_failed(begun: RunLayout) -> None:
    ended = Airflow({"r1": "failed"}, {"r1": "r1"}, {"r1": ()})
    assert outcome(ended) == ("ended by a person", "marked as failed in Airflow")
    told = Airflow(
        {"r1": "failed"}, {"r1": "r1"}, {"r1": ("train",)}, {"r1": "**ended by a person** (ada)"}
    )
    assert outcome(told) == ("ended by a person", "(ada)")
    lost = Airflow({"r1": "failed"}, {"r1": "r1"}, {"r1": ("train",)})
    assert outcome(lost)[0] == "failed"


def test_a_run_that_passed_its_canary_waits_for_approval(begun: RunLayout) -> None:
    record = DeployRecord(stage="canary", outcome="passed", version=2, reasons=("passed",))
    leave_stage(begun, "canary", record)
    running = Airflow({"r1": "running"}, {"r1": "r1"})
    assert outcome(running) == ("waits for approval", "passed")


def test_a_run_that_a_person_rejected_ends_with_that(begun: RunLayout) -> None:
    record = DeployRecord(stage="canary", outcome="passed", version=2, reasons=("passed",))
    leave_stage(begun, "canary", record)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    answer = Approval(version=2, is_approved=False, who="ada", answered_at=moment)
    answer.write(begun.approval)
    assert outcome(Airflow({"r1": "success"}, {"r1": "r1"})) == ("not approved", "ada rejected it")
    answer.model_copy(update={"is_approved": True}).write(begun.approval)
    running = Airflow({"r1": "running"}, {"r1": "r1"})
    assert outcome(running)[0] == "waits for approval"


def test_a_paused_trial_is_told(layout: PipelineLayout) -> None:
    arms = (
        Arm(name="stable", version=1, weight_percent=95),
        Arm(name="canary", version=2, weight_percent=5),
    )
    hold = Hold(version=2, weight_percent=5, author="ada", reason="lunch")
    plan = TrafficPlan(pipeline="digits", arms=arms, author="run r1", hold=hold)
    assert "; paused by ada (lunch))" in in_words(plan)
    ending = state_of(layout.run("r1"), plan, Airflow({"r1": "running"}))
    assert ending.reasons == ("version 2 at 5 %", "paused by ada")


def test_a_run_that_ended_in_its_canary_is_not_called_packaged(begun: RunLayout) -> None:
    leave_package(begun, 3, "sha256:0", compared_with=1)
    assert outcome() == ("packaged", "")
    begun.attempts("canary").mkdir(parents=True)
    (begun.attempts("canary") / "1").touch()
    assert outcome() == ("interrupted", "in 'canary': its process ended without a message")


def test_a_trial_that_was_withdrawn_is_told_with_who_when_and_why() -> None:
    withdrawal = Withdrawal(
        version=2,
        weight_percent=50,
        author="run r2",
        by="the serving agent",
        reason="run r2 has been silent for 61 s",
        withdrawn_at=datetime(2026, 1, 1, 12, tzinfo=UTC),
    )
    arms = (Arm(name="stable", version=1, weight_percent=100),)
    said = in_words(TrafficPlan(pipeline="digits", arms=arms, withdrawn=withdrawal))
    when = f"{withdrawal.withdrawn_at.astimezone():%Y-%m-%d %H:%M:%S}"
    assert "the serving agent withdrew the trial of version 2 (at 50 %, run r2)" in said
    assert f"at {when}: run r2 has been silent for 61 s" in said


def test_without_an_agent_a_damaged_plan_is_shown_by_its_copy(layout: PipelineLayout) -> None:
    arms = (Arm(name="stable", version=1, weight_percent=100),)
    TrafficPlan(pipeline="digits", arms=arms).write(layout.good_traffic_plan)
    layout.traffic_plan.write_text("{")
    assert standing_of("digits", 5)["champion"] == 1
