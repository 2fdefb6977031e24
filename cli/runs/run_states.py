"""What a run that has not ended by its records is doing, or why it has stopped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.runs.airflow_api import ENDED_NOTE, AirflowClient
from cli.runs.outcome import Ending, ending_of, failed, packaged, read_result
from cli.runs.progress import trial_words
from contract.errors import EXIT_UNEXPECTED, NotFoundError, SlipwayError
from contract.layout import RunLayout, run_folder
from contract.records.record import EndedBy
from contract.records.stack import Stack
from contract.records.traffic import DeployRecord, TrafficPlan
from contract.steps import STEPS
from contract.storage import ORIGIN, Attempt
from launching.processes.step_locks import is_held, locked_inodes


@dataclass(frozen=True)
class Airflow:
    """What Airflow reports on a pipeline's runs: each run's state, by the name of its folder."""

    states: Mapping[str, str] = field(default_factory=dict)
    run_ids: Mapping[str, str] = field(default_factory=dict)
    failed_tasks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


def ask_airflow(stack: Stack | None, pipeline: str, most_runs: int) -> Airflow:
    """Return what Airflow reports on the latest runs; empty without an answer."""
    if stack is None or not stack.airflow_url:
        return Airflow()
    try:
        with AirflowClient.of(stack) as airflow:
            runs = airflow.runs(pipeline, most_runs)
            lost = [run["dag_run_id"] for run in runs if run["state"] == "failed"]
            tasks = {
                run_folder(r): _failed_tasks(airflow.task_instances(pipeline, r)) for r in lost
            }
    except NotFoundError:
        return Airflow()  # Airflow has not read this pipeline yet
    except SlipwayError as error:
        return Airflow(problem=str(error))
    ids = {run_folder(run["dag_run_id"]): str(run["dag_run_id"]) for run in runs}
    notes = {run_folder(run["dag_run_id"]): run.get("note") or "" for run in runs}
    return Airflow({run_folder(r["dag_run_id"]): str(r["state"]) for r in runs}, ids, tasks, notes)


def state_of(run: RunLayout, plan: TrafficPlan, airflow: Airflow) -> Ending:
    """Return how a run ended, or in `outcome` what it is doing now, with reasons."""
    state = airflow.states.get(run.path.name)
    if (ending := ending_of(run)) is not None:
        return ending
    if state == "queued":
        return Ending(EXIT_UNEXPECTED, "queued", _what_it_waits_for(airflow, plan))
    if (step := _step_under_way(run)) is not None or state == "running":
        return _under_way(run, step, plan)
    note = airflow.notes.get(run.path.name, "")
    if state == "failed" and note.startswith(ENDED_NOTE):
        return Ending(
            EXIT_UNEXPECTED, "ended by a person", (note.removeprefix(ENDED_NOTE).strip(),)
        )
    if state == "failed":
        return failed(run) or _lost(airflow.failed_tasks.get(run.path.name, ()))
    # What a person ended has failed, too, by the records of the steps that were asked to end.
    return _ended_by(run) or failed(run) or packaged(run) or _left(run)


def _under_way(run: RunLayout, step: str | None, plan: TrafficPlan) -> Ending:
    trial = plan.canary or plan.shadow
    is_ours = plan.author == run.author
    if step == "canary" or (trial is not None and is_ours):
        where = f"{plan.canary.weight_percent} %" if plan.canary else "shadow"
        reasons: tuple[str, ...] = ()
        if trial is not None and is_ours:
            reasons = (f"version {trial.version} at {where}",)
        if reasons and plan.hold is not None:
            reasons += (f"paused by {plan.hold.author or 'somebody'}",)
        return Ending(EXIT_UNEXPECTED, "in canary", reasons)
    if step is None and (canary := read_result(run, "canary")) is not None:
        record = canary.detail_as(DeployRecord)
        return Ending(EXIT_UNEXPECTED, "waits for approval", record.reasons, record.version)
    return Ending(EXIT_UNEXPECTED, "running", (f"'{step}' is running",) if step else ())


def _left(run: RunLayout) -> Ending:
    """Return the ending of a run whose process has ended and said nothing."""
    begun = [step for step in STEPS if Attempt.newest(run.attempts(step))]
    if begun and (step := _begun_elsewhere(run, begun)):
        reason = f"another machine has begun '{step}' and not told how it ended"
        return Ending(EXIT_UNEXPECTED, "elsewhere", (reason,))
    open_steps = [step for step in begun if not run.result(step).exists()]
    where = f"in '{open_steps[-1]}': " if open_steps else ""
    return Ending(EXIT_UNEXPECTED, "interrupted", (f"{where}its process ended without a message",))


def _begun_elsewhere(run: RunLayout, begun: Sequence[str]) -> str:
    """Return the step of a run in an object store that began last, if it is not of this machine.

    Its token is only a copy then, which is empty.
    """
    if not (run.root / ORIGIN).is_file():
        return ""
    tokens = {step: run.attempts(step) / str(Attempt.newest(run.attempts(step))) for step in begun}
    last = max(begun, key=lambda step: tokens[step].stat().st_mtime)
    return "" if tokens[last].stat().st_size else last


def _ended_by(run: RunLayout) -> Ending | None:
    """Return the ending of a run that a person or a signal ended at its terminal."""
    try:
        end = EndedBy.read(run.ended_by)
    except NotFoundError:
        return None
    if end.is_person:
        return Ending(EXIT_UNEXPECTED, "ended by a person", (f"{end.who} interrupted it",))
    return Ending(EXIT_UNEXPECTED, "interrupted", (f"by {end.who}",))


def _lost(tasks: Sequence[str]) -> Ending:
    """Return the ending of a run that Airflow calls failed and that left no reason."""
    if not tasks:
        return Ending(EXIT_UNEXPECTED, "ended by a person", ("marked as failed in Airflow",))
    reason = "killed, or marked as failed in Airflow; see the task's log there"
    return Ending(EXIT_UNEXPECTED, "failed", (reason,), failed_step=tasks[0])


def _failed_tasks(instances: Sequence[Mapping[str, Any]]) -> list[str]:
    lost = [one for one in instances if one["state"] == "failed"]
    lost.sort(key=lambda one: one["end_date"] or "")
    return [str(one["task_id"]).rpartition(".")[2] for one in lost]


def _what_it_waits_for(airflow: Airflow, plan: TrafficPlan) -> tuple[str, ...]:
    """Return the run that must end first, and what that needs."""
    running = [airflow.run_ids[f] for f, state in airflow.states.items() if state == "running"]
    if not running:
        return ("waits for Airflow's scheduler",)
    trial = trial_words(plan)
    return (f"waits for run {running[0]}", *([trial] if trial else []))


def _step_under_way(run: RunLayout) -> str | None:
    """Return a step that has a live process on this machine."""
    held = locked_inodes()
    return next((step for step in STEPS if is_held(run.process_lock(step), held)), None)
