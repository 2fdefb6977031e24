"""The executor is the pause of Airflow's scheduler, and a task's end is the end of the pause."""

import threading
import time
from collections.abc import Iterator

import pytest
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.state import TaskInstanceState

import operators.executor
from operators.executor import WaitingExecutor

KEY = TaskInstanceKey("a_dag", "a_task", "a_run", 1)


@pytest.fixture
def executor() -> Iterator[WaitingExecutor]:
    made = WaitingExecutor(parallelism=1)
    made.start()
    yield made
    made.end()


def seconds_of(executor: WaitingExecutor) -> float:
    started = time.monotonic()
    executor.sync()
    return time.monotonic() - started


def test_while_nothing_happens_it_pauses(
    executor: WaitingExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators.executor, "PAUSE_SECONDS", 0.1)
    assert seconds_of(executor) >= 0.1


def test_the_end_of_a_task_ends_the_pause(
    executor: WaitingExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators.executor, "PAUSE_SECONDS", 60.0)
    result = (KEY, TaskInstanceState.SUCCESS, None)
    threading.Timer(0.05, executor.result_queue.put, (result,)).start()
    assert seconds_of(executor) < 60
    assert executor.get_event_buffer()[KEY][0] == TaskInstanceState.SUCCESS


def test_after_a_task_was_started_the_scheduler_looks_at_once_and_pauses_then(
    executor: WaitingExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators.executor, "PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(WaitingExecutor.__base__, "_process_workloads", lambda *_: None)
    executor._process_workloads([object()])
    assert seconds_of(executor) < 60
    monkeypatch.setattr(operators.executor, "PAUSE_SECONDS", 0.1)
    assert seconds_of(executor) >= 0.1
