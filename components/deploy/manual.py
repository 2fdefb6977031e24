"""Traffic by hand: what a person may do to any kept version, past canary and judge."""

from components.agent_client import AgentClient
from components.deploy.data_plane import seconds_until_taken_over
from components.deploy.plans import Note, out_of_service, with_champion, without_trial
from components.retention import remove_version
from contract.errors import NotFoundError, ServiceUnavailableError, UserError
from contract.layout import PipelineLayout
from contract.records.traffic import TrafficPlan

# A server has to load and warm its model before it gets traffic, and to drain before it stops.
_TIMEOUT_SECONDS = 300.0


def promote_version(
    client: AgentClient, layout: PipelineLayout, version: int, author: str
) -> TrafficPlan:
    """Give all traffic to a kept version and return the plan once traffic follows it.

    A trial that is going on ends; its run finds out and stops.

    Raises:
        NotFoundError: If the version is not kept.
        PlanConflictError: If somebody changed the plan in the same moment.
    """
    _check_kept(layout, version)
    plan = client.plan(layout.pipeline)
    note = Note(author, f"version {version} is promoted by hand")
    return _in_force(client, client.propose(with_champion(plan, version, note)))


def rollback(
    client: AgentClient, layout: PipelineLayout, version: int | None, author: str
) -> TrafficPlan:
    """Go back to a version; without one end the trial, or else go to the last champion.

    Raises:
        NotFoundError: If there is nothing to go back to.
        PlanConflictError: If somebody changed the plan in the same moment.
    """
    plan = client.plan(layout.pipeline)
    trial = plan.canary or plan.shadow
    if version is None and trial is not None:
        note = Note(author, f"the trial of version {trial.version} is ended by hand")
        return _in_force(client, client.propose(without_trial(plan, trial.version, note)))
    if version is None and not plan.standby:
        raise NotFoundError(
            f"{layout.pipeline}: no last champion on standby to go back to; name a version "
            f"(kept: {_kept(layout)})"
        )
    target = plan.standby[0] if version is None else version
    _check_kept(layout, target)
    note = Note(author, f"rolled back to version {target} by hand")
    return _in_force(client, client.propose(with_champion(plan, target, note)))


def teardown(
    client: AgentClient, layout: PipelineLayout, version: int | None, author: str
) -> TrafficPlan:
    """Take the pipeline out of service, or stop and remove one version of it.

    Raises:
        NotFoundError: If the version is not kept.
        UserError: If the version is the champion: that would leave callers without an answer.
        PlanConflictError: If somebody changed the plan in the same moment.
    """
    plan = client.plan(layout.pipeline)
    if version is None:
        note = Note(author, "taken out of service by hand")
        return _in_force(client, client.propose(out_of_service(plan, note)))
    _check_kept(layout, version)
    if version == plan.champion:
        raise UserError(
            f"{layout.pipeline}: version {version} is the champion and cannot be removed; promote "
            "another one first, or tear down the whole pipeline by naming no version"
        )
    if version in plan.versions:
        note = Note(author, f"version {version} is removed by hand")
        plan = _in_force(client, client.propose(_without(plan, version, note)))
    remove_version(layout, version)
    return plan


def _without(plan: TrafficPlan, version: int, note: Note) -> TrafficPlan:
    trial = plan.canary or plan.shadow
    if trial is not None and trial.version == version:
        return without_trial(plan, version, note)
    standby = tuple(kept for kept in plan.standby if kept != version)
    return plan.model_copy(
        update={"standby": standby, "author": note.author, "reason": note.reason}
    )


def _in_force(client: AgentClient, plan: TrafficPlan) -> TrafficPlan:
    if seconds_until_taken_over(client, plan, _TIMEOUT_SECONDS) is None:
        raise ServiceUnavailableError(
            f"{plan.pipeline}: the plan is stored (generation {plan.generation}) but traffic does "
            f"not follow it after {_TIMEOUT_SECONDS:g} s; see the agent's log"
        )
    return plan


def _check_kept(layout: PipelineLayout, version: int) -> None:
    if version not in layout.kept_versions():
        raise NotFoundError(
            f"{layout.pipeline}: version {version} is not kept (kept: {_kept(layout)})"
        )


def _kept(layout: PipelineLayout) -> str:
    return ", ".join(map(str, layout.kept_versions())) or "none"
