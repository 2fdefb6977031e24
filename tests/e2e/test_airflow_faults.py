"""What is killed comes back, once; what a person stops is gone."""

import os
import time
from typing import Any

import psutil
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
AFTER_BLESS = ("optimize", "package", "canary", "promote")


def start_training(stack: AirflowStack, pipeline: str, run_id: str) -> RunLayout:
    """Start a run and wait for its first checkpoint."""
    stack.add(pipeline, schedule={"retry_delay_seconds": 1.0})
    stack.trigger(pipeline, run_id, {"overrides": LONG}).raise_for_status()
    run: RunLayout = stack.layout(pipeline, run_id)
    stack.wait(lambda: run.checkpoint_manifest(500).exists(), 300)
    assert not run.training_ended.exists(), "training was too fast to be disturbed"
    return run


def assert_whole(stack: AirflowStack, run: RunLayout, tries: dict[str, int]) -> None:
    """See that the run came to its verdict, with no step lost and none done twice."""
    assert stack.await_end(run.pipeline, run.run_id) == "success"
    for step in (s for s in STEPS if s not in AFTER_BLESS):
        assert Result.read(run.result(step)).step == step
        attempts = [p for p in run.attempts(step).glob("*") if p.name.isdigit()]
        assert len(attempts) <= tries.get(step, 1), f"{step} ran {len(attempts)} times"
    made = Result.read(run.result("train")).detail_as(TrainRecord).checkpoints
    assert len(set(made)) == len(made)
    assert set(range(500, LAST_STEP + 1, 500)) <= set(made)  # one more is left on SIGTERM
    assert Result.read(run.result("evaluate")).detail_as(EvaluateRecord).steps == made


def test_a_killed_component_is_retried_and_goes_on_where_it_was(
    airflow_stack: AirflowStack,
) -> None:
    stack = airflow_stack
    run = start_training(stack, "killed_component", "run-1")
    stack.component(run, "train").kill()
    assert_whole(stack, run, {"train": 2})
    assert stack.task(run.pipeline, run.run_id, "train")["try_number"] == 2
    assert Result.read(run.result("train")).detail_as(TrainRecord).resumed_from_step >= 500


def test_a_killed_worker_leaves_no_process_that_could_double_its_step(
    airflow_stack: AirflowStack,
) -> None:
    stack = airflow_stack
    run = start_training(stack, "killed_worker", "run-1")
    trainer = stack.component(run, "train")
    group = os.getpgid(trainer.pid)
    task = psutil.Process(group).parent()
    assert task is not None
    worker = task.parent()
    assert worker is not None
    assert "airflow worker" in " ".join(worker.cmdline())
    worker.kill()
    stack.wait(lambda: not is_there(group), 60)
    assert_whole(stack, run, {"train": 2})


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
