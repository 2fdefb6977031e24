"""What a person tells a trial to do (pause, resume, abort, approve): said first, then done."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cli.runs.airflow_api import AirflowClient
from components.deploy.promote import manual
from components.runs.agent_client import AgentClient
from contract.errors import NotFoundError, UserError
from contract.layout import PipelineLayout
from contract.records.rollout import Rollout
from contract.records.stack import Stack
from contract.records.traffic import TrafficPlan

_ACKNOWLEDGE_SECONDS = 10.0
_POLL_SECONDS = 0.1
_OPEN_RUNS = 20
_WAITING = "awaiting_input"


@dataclass(frozen=True)
class Order:
    """A decided change: what it will do in words, and how it is done, which returns the end."""

    words: str
    carry_out: Callable[[], str]


def pause(client: AgentClient, plan: TrafficPlan, author: str, reason: str) -> Order:
    """Decide to keep the trial on its rung.

    Raises:
        UserError: If there is no trial, or it is paused already.
    """
    name = plan.pipeline
    if plan.trial is None:
        raise UserError(f"{name}: no trial is in progress, so there is nothing to pause")
    if plan.hold is not None:
        raise UserError(f"{name}: {plan.hold.author or 'somebody'} has paused this trial already")
    version, percent = plan.trial
    words = (
        f"version {version} stays {_where(percent)} until it is resumed: no rung is passed, and "
        "failing evidence still rolls it back"
    )

    def carry_out() -> str:
        held = client.pause(name, author, reason)
        assert held.hold is not None
        where = _where(held.hold.weight_percent)
        return f"version {held.hold.version} is paused {where}{_acknowledged(client, name, True)}"

    return Order(words, carry_out)


def resume(client: AgentClient, plan: TrafficPlan) -> Order:
    """Decide to let a paused trial continue.

    Raises:
        UserError: If none is paused.
    """
    if plan.hold is None:
        raise UserError(f"{plan.pipeline}: no trial is paused, so there is nothing to resume")
    hold, name = plan.hold, plan.pipeline

    def carry_out() -> str:
        client.resume(name)
        return f"version {hold.version} continues{_acknowledged(client, name, False)}"

    words = (
        f"version {hold.version} continues {_where(hold.weight_percent)}, paused by "
        f"{hold.author or 'somebody'}"
    )
    return Order(words, carry_out)


def abort(client: AgentClient, plan: TrafficPlan, layout: PipelineLayout, author: str) -> Order:
    """Decide to end the trial in progress; never anything about the version in service.

    Raises:
        UserError: If there is no trial.
    """
    if plan.trial is None:
        raise UserError(
            f"{plan.pipeline}: no trial is in progress, so there is nothing to abort; 'slipway "
            f"rollback {plan.pipeline}' returns to the champion before"
        )
    move = manual.rollback(plan, layout, None, author)

    def carry_out() -> str:
        manual.carry_out(client, move)
        return move.words

    return Order(move.words, carry_out)


def approve(stack: Stack, name: str, choice: str = "Approve") -> Order:
    """Decide to answer the run of a pipeline that waits for approval in Airflow.

    Raises:
        NotFoundError: If none waits.
        ServiceUnavailableError: If there is no Airflow.
    """
    with AirflowClient.of(stack) as airflow:
        waiting = _waiting(airflow, name)
    run_id = waiting["dag_run_id"]

    def carry_out() -> str:
        with AirflowClient.of(stack) as airflow:
            airflow.answer(waiting, choice)
        return f"run {run_id} continues: its version gets all traffic"

    return Order(
        f"run {run_id} is approved: its version, which passed, gets all traffic", carry_out
    )


def _waiting(airflow: AirflowClient, name: str) -> dict[str, Any]:
    """Return the task that waits for a person."""
    for run in airflow.runs(name, _OPEN_RUNS):
        if run["state"] != "running":
            continue
        for task in airflow.task_instances(name, str(run["dag_run_id"])):
            if task["state"] == _WAITING:
                return task
    raise NotFoundError(
        f"{name}: no run waits for approval in Airflow; a version that passed its trial without "
        f"Airflow is promoted with 'slipway promote {name}'"
    )


def _acknowledged(client: AgentClient, name: str, is_paused: bool) -> str:
    """Wait until the controller has seen the order, and say if it has not."""
    deadline = time.monotonic() + _ACKNOWLEDGE_SECONDS
    while time.monotonic() < deadline:
        rollout = _rollout(client, name)
        if rollout is not None and (rollout.is_over or (rollout.state == "paused") == is_paused):
            return ""
        time.sleep(_POLL_SECONDS)
    return "; its controller is not running now and will see this when it starts again"


def _rollout(client: AgentClient, name: str) -> Rollout | None:
    try:
        return client.rollout(name)
    except NotFoundError:
        return None


def _where(percent: int) -> str:
    return f"at {percent} %" if percent else "in shadow"
