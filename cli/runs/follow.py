"""Follow a DAG run through Airflow's REST API until it ends."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from cli.board import RUNNING, WAITING, Board
from cli.runs.airflow_api import AirflowClient
from cli.runs.outcome import Ending, ending_of
from cli.runs.outcome import failed as failed_first
from cli.runs.progress import note_of, summary_of
from cli.stack.logs import TAIL_LINES
from contract.errors import (
    EXIT_DONE,
    EXIT_UNEXPECTED,
    NotFoundError,
    ServiceUnavailableError,
)
from contract.layout import RunLayout
from contract.steps import STEPS

POLL_SECONDS = 1.0
FIND_SECONDS = 60.0  # how long a new pipeline's DAG is waited for
PATIENCE_SECONDS = 60.0  # how long an Airflow that does not answer (a restart) is waited for

# Airflow's states in our terms; a state that is not listed here has not started.
STATES = {
    "running": RUNNING,
    "restarting": RUNNING,
    "deferred": RUNNING,
    "awaiting_input": RUNNING,
    "up_for_retry": "retrying",
    "up_for_reschedule": RUNNING,
    "success": "done",
    "failed": "failed",
    "upstream_failed": "skipped",
    "skipped": "skipped",
    "removed": "skipped",
}


def find_dag(airflow: AirflowClient, dag_id: str) -> None:
    """Wait until Airflow has read the pipeline's DAG; ask for it if it has not yet.

    Raises:
        ServiceUnavailableError: If it does not come, with Airflow's own import errors.
    """
    deadline = time.monotonic() + FIND_SECONDS
    has_asked = False
    while True:
        try:
            airflow.dag(dag_id)
            return
        except NotFoundError as error:
            if time.monotonic() > deadline:
                problems = "\n".join(airflow.import_errors())
                raise ServiceUnavailableError(
                    f"Airflow has no DAG '{dag_id}' after {FIND_SECONDS:.0f} s; was SLIPWAY_"
                    f"PIPELINES set as now when 'slipway up' started it?\n{problems}".rstrip()
                ) from error
        if not has_asked and (others := airflow.dags()):
            airflow.read_again(others[0]["file_token"])
            has_asked = True
        time.sleep(POLL_SECONDS)


def stages_of(tasks: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a DAG's tasks by level: each stands right after the last that it waits for."""
    downstream = {t["task_id"]: sorted(t["downstream_task_ids"]) for t in tasks}
    level = dict.fromkeys(downstream, 0)
    for _ in downstream:  # the longest chain has at most as many links as there are tasks
        for task, followers in downstream.items():
            for follower in followers:
                level[follower] = max(level[follower], level[task] + 1)
    order = {step: number for number, step in enumerate(STEPS)}
    ranked = sorted(level, key=lambda t: (level[t], order.get(short_name(t), -1), t))
    return [[t for t in ranked if level[t] == n] for n in sorted(set(level.values()))]


def expected_seconds(instances: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return each task's median time over the latest runs, by task id."""
    seen: dict[str, list[float]] = {}
    for instance in instances:
        if instance["state"] == "success" and instance["duration"] is not None:
            seen.setdefault(instance["task_id"], []).append(instance["duration"])
    return {task: median(seconds) for task, seconds in seen.items()}


MOST_OTHERS = 20


class Follower:
    """Keeps a board in step with one DAG run."""

    def __init__(self, airflow: AirflowClient, dag_id: str, run_id: str) -> None:
        self._airflow, self._dag_id, self._run_id = airflow, dag_id, run_id

    def board(self, title: str, typical: Mapping[str, float]) -> Board:
        """Return a board with a line for each task of the DAG.

        Args:
            typical: Seconds by step, for tasks that no earlier run has ended.
        """
        stages = stages_of(self._airflow.tasks(self._dag_id))
        tasks = (task for stage in stages for task in stage)
        guessed = {t: typical[short_name(t)] for t in tasks if short_name(t) in typical}
        measured = expected_seconds(self._airflow.task_instances(self._dag_id))
        return Board(title, stages, guessed | measured)

    def follow(self, board: Board, run: RunLayout) -> Ending:
        """Poll until the run has ended; `run` is where its components leave their records."""
        silent_since: float | None = None
        while True:
            try:
                state = self._airflow.run(self._dag_id, self._run_id)["state"]
                instances = self._airflow.task_instances(self._dag_id, self._run_id)
                silent_since = None
            except ServiceUnavailableError:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > PATIENCE_SECONDS:
                    raise
                time.sleep(POLL_SECONDS)
                continue
            found = {instance["task_id"]: instance for instance in instances}
            if state == "queued":
                self._say_what_it_waits_for(board, run)
            for task in board.rows:
                if task in found:
                    show(board, found[task], run)
            if state in ("success", "failed"):
                return self._ending(state, instances, run)
            time.sleep(POLL_SECONDS)

    def _say_what_it_waits_for(self, board: Board, run: RunLayout) -> None:
        """Name the run that must end first (one of a pipeline at a time), and what it needs."""
        first = next(iter(board.rows))
        others = self._airflow.runs(self._dag_id, MOST_OTHERS)
        running = [str(run["dag_run_id"]) for run in others if run["state"] == "running"]
        if running and board.rows[first].state == WAITING:
            needs = note_of(run, "canary")
            note = f"waits for run {running[0]}{f': {needs}' if needs else ''}"
            board.update(first, WAITING, note=note)

    def _ending(self, state: str, instances: Sequence[Mapping[str, Any]], run: RunLayout) -> Ending:
        if state == "success":
            return ending_of(run) or Ending(EXIT_DONE, "nothing to do")
        failed = [i for i in instances if i["state"] == "failed"]
        if not failed:
            return Ending(EXIT_UNEXPECTED, "failed", ("the run was ended by a person",))
        first = min(failed, key=lambda i: i["end_date"] or "")
        if (recorded := failed_first(run)) is not None:  # as `status` names it
            steps = {short_name(i["task_id"]): i for i in failed}
            first = steps.get(recorded.failed_step, first)
        step = short_name(first["task_id"])
        is_recorded = recorded is not None and recorded.failed_step == step
        return Ending(
            recorded.exit_code if recorded and is_recorded else EXIT_UNEXPECTED,
            "failed",
            failed_step=step,
            log=tuple(last_lines(self._airflow.log(first))),
        )


def show(board: Board, instance: Mapping[str, Any], run: RunLayout) -> None:
    """Put the state of one task instance on the board."""
    task = instance["task_id"]
    state = STATES.get(instance["state"] or "", WAITING)
    if state == WAITING and board.rows[task].state == WAITING:
        return
    step = short_name(task)
    note = None
    if state == "done" and step in STEPS:
        note = summary_of(run, step)
    elif instance["state"] == "awaiting_input":
        note = "waits for approval in the Airflow UI"
    elif state == "retrying" or instance["try_number"] > 1:
        note = f"attempt {instance['try_number']} of {instance['max_tries'] + 1}"
    elif state == RUNNING:
        note = note_of(run, step)
    seconds = None if state == "skipped" else _seconds(instance)
    board.update(task, state, seconds=seconds, note=note)


def last_lines(log: Sequence[str]) -> list[str]:
    """Return the last lines of a task's log, without Airflow's folding marks."""
    lines = [line for message in log for line in message.splitlines()]
    return [line for line in lines if not line.startswith("::")][-TAIL_LINES:]


def short_name(task_id: str) -> str:
    """Return a task's name without its group."""
    return task_id.rpartition(".")[2]


def _seconds(instance: Mapping[str, Any]) -> float | None:
    if instance["duration"] is not None:
        return float(instance["duration"])
    if instance["start_date"] is None:
        return None
    started = datetime.fromisoformat(instance["start_date"])
    return (datetime.now(UTC) - started).total_seconds()
