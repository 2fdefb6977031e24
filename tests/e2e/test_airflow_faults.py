"""What is killed comes back, once; what a person stops is gone."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from airflow_stack import AirflowStack

from contract.layout import RunLayout
from contract.records.evaluation import EvaluateRecord
from contract.records.record import Result
from contract.records.training import TrainRecord
from contract.steps import STEPS

pytestmark = pytest.mark.long

LAST_STEP = 3000
LONG = {
    "train.steps": LAST_STEP,
    "train.checkpoint_every_steps": 500,
    "train.keep_checkpoints": 100,
}
NONE: Mapping[str, int] = MappingProxyType({})
FRESH = "started as a fresh process"
AFTER_BLESS = ("optimize", "package", "canary", "promote")


def start_training(
    stack: AirflowStack, pipeline: str, run_id: str, changes: Mapping[str, int] = NONE
) -> RunLayout:
    """Start a run and wait for its first checkpoint."""
    stack.add(pipeline, schedule={"retry_delay_seconds": 1.0, "retries": 3})
    stack.trigger(pipeline, run_id, {"overrides": {**LONG, **changes}}).raise_for_status()
    run: RunLayout = stack.layout(pipeline, run_id)
    stack.wait(lambda: run.checkpoint_manifest(500).exists(), 600)
    assert not run.training_ended.exists(), "training was too fast to be disturbed"
    return run


def assert_whole(
    stack: AirflowStack, run: RunLayout, tries: dict[str, int], last_step: int = LAST_STEP
) -> None:
    """See that the run came to its verdict, with no step lost and none done twice."""
    assert stack.await_end(run.pipeline, run.run_id) == "success"
    for step in (s for s in STEPS if s not in AFTER_BLESS):
        assert Result.read(run.result(step)).step == step
        attempts = [p for p in run.attempts(step).glob("*") if p.name.isdigit()]
        assert len(attempts) <= tries.get(step, 1), f"{step} ran {len(attempts)} times"
    made = Result.read(run.result("train")).detail_as(TrainRecord).checkpoints
    assert len(set(made)) == len(made)
    assert set(range(500, last_step + 1, 500)) <= set(made)  # one more is left on SIGTERM
    assert Result.read(run.result("evaluate")).detail_as(EvaluateRecord).steps == made


def test_who_is_killed_leaves_no_process_and_is_retried_where_it_was(
    airflow_stack: AirflowStack,
) -> None:
    """A worker is killed above a fork, then a component, which is a fork, then a fresh one."""
    stack = airflow_stack
    run = start_training(stack, "killed", "run-1", {"train.steps": 3 * LAST_STEP})
    group = os.getpgid(stack.component(run, "train").pid)
    stack.worker(run, "train").kill()
    stack.wait(lambda: not is_there(group), 240)
    await_progress(stack, run, attempt=2)
    with stack.without_warm_parent():
        stack.component(run, "train").kill()
        await_progress(stack, run, attempt=3)
        stack.component(run, "train").kill()
        assert_whole(stack, run, {"train": 4}, 3 * LAST_STEP)
    assert stack.task(run.pipeline, run.run_id, "train")["try_number"] == 4
    assert Result.read(run.result("train")).detail_as(TrainRecord).resumed_from_step >= 1500
    is_fresh = [FRESH in stack.log(run.pipeline, run.run_id, "train", n) for n in (1, 2, 3, 4)]
    assert is_fresh == [False, False, True, True]


def published(run: RunLayout) -> list[Path]:
    return list(run.checkpoints.glob("[0-9]*/manifest.json"))


def await_progress(stack: AirflowStack, run: RunLayout, attempt: int) -> None:
    """Wait until an attempt at the training has left a checkpoint."""
    stack.wait(lambda: (run.attempts("train") / str(attempt)).exists(), 240)
    before = len(published(run))
    stack.wait(lambda: len(published(run)) > before, 240)
    assert not run.training_ended.exists(), "training was too fast to be disturbed"


def test_a_killed_scheduler_loses_and_doubles_no_step(airflow_stack: AirflowStack) -> None:
    stack = airflow_stack
    run = start_training(stack, "killed_scheduler", "run-1")
    stack.kill("airflow-scheduler")
    time.sleep(2)
    stack.start("airflow-scheduler")
    # The tasks that ran are given up after a while and tried again, if they have not ended by then.
    assert_whole(stack, run, {"train": 2, "evaluate": 2})


def test_marking_a_task_as_failed_ends_its_processes_and_the_evaluation(
    airflow_stack: AirflowStack,
) -> None:
    stack = airflow_stack
    run = start_training(stack, "marked", "run-1")
    group = os.getpgid(stack.component(run, "train").pid)
    path = f"/dags/marked/dagRuns/{run.run_id}/taskInstances/train"
    started = time.monotonic()
    stack.call("PATCH", path, json={"new_state": "failed"}).raise_for_status()
    stack.wait(lambda: not is_there(group), 10)
    assert time.monotonic() - started < 10
    assert stack.await_end("marked", run.run_id) == "failed"
    states = stack.states("marked", run.run_id)
    assert states["train"] == "failed"
    assert states["evaluate"] == "success"  # it judged what there was
    assert states["bless"] == "upstream_failed"


def is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(autouse=True)
def _pause_afterwards(airflow_stack: AirflowStack) -> Any:
    yield
    for name in airflow_stack.pipelines.iterdir():
        airflow_stack.pause(name.name)
