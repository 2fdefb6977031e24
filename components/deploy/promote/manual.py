"""Manual changes of traffic: what a person may do to any kept version, without canary and judge.

A promotion and a roll-back are decided first, as a `Move` that a person can read, and then carried
out on the very plan that the decision was made on.
"""

from dataclasses import dataclass

from components.deploy.data_plane import seconds_until_taken_over
from components.deploy.plans import Note, out_of_service, with_champion, without_trial
from components.deploy.promote.trials import Trial, trial_of
from components.runs.agent_client import AgentClient
from components.runs.retention import remove_version
from contract.errors import NotFoundError, ServiceUnavailableError, UserError
from contract.layout import PipelineLayout
from contract.records.traffic import BadVersion, TrafficPlan

# A server has to load and warm its model before it gets traffic, and to drain before it stops.
_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Move:
    """A change of the traffic that is decided and not yet made.

    `proposal` keeps the generation of the plan that the decision rests on: if somebody changes
    that plan before the move is carried out, the move is refused. `words` say from which version
    to which and why; `warning` says what speaks against it, or nothing.
    """

    proposal: TrafficPlan
    words: str
    warning: str = ""


def carry_out(client: AgentClient, move: Move) -> TrafficPlan:
    """Make a change and return the plan once traffic follows it.

    Raises:
        PlanConflictError: If the plan has changed since the move was decided.
        ServiceUnavailableError: If traffic does not follow the plan in time.
    """
    return _in_force(client, client.propose(move.proposal))


# --- promotion ----------------------------------------------------------------------------------


def promotion(
    plan: TrafficPlan, layout: PipelineLayout, version: int | None, is_forced: bool, author: str
) -> Move:
    """Decide to give all traffic to a kept version; a trial that is not over ends.

    Without a version it is the newest one that passed its trial and is newer than the champion.

    Raises:
        NotFoundError: If the version is not kept, or none is.
        UserError: If the version did not pass and the promotion is not forced, or no version is
            named and none has passed.
    """
    target = _newest_passed(plan, layout) if version is None else version
    layout.check_kept(target)
    trial = trial_of(layout, target, plan)
    if not trial.has_passed and not is_forced:
        raise UserError(
            f"{layout.pipeline}: version {target} did not pass: {trial.words}. To give it all "
            f"traffic nevertheless: slipway promote {layout.pipeline} --version {target} --force"
        )
    note = Note(author, f"version {target} is promoted manually")
    warning = "" if trial.has_passed else f"version {target} did not pass: {trial.words}"
    return Move(with_champion(plan, target, note), _promotion_words(plan, target, trial), warning)


def _newest_passed(plan: TrafficPlan, layout: PipelineLayout) -> int:
    """Return the newest version that passed its trial and is newer than the champion."""
    newer = [v for v in reversed(layout.kept_versions()) if v > (plan.champion or 0)]
    trials = {version: trial_of(layout, version, plan) for version in newer}
    for version, trial in trials.items():
        if trial.has_passed:
            return version
    if not layout.kept_versions():
        raise NotFoundError(
            f"{layout.pipeline}: no version is kept; create one with 'slipway run "
            f"{layout.pipeline}'"
        )
    found = "; ".join(f"version {version}: {trial.words}" for version, trial in trials.items())
    served = f"version {plan.champion} is in service" if plan.champion else "nothing is in service"
    raise UserError(
        f"{layout.pipeline}: {served} and no newer version has passed its trial "
        f"({found or 'none is newer'}). Name the version to promote with --version"
    )


def _promotion_words(plan: TrafficPlan, version: int, trial: Trial) -> str:
    why = trial.words if trial.has_passed else "named by number and forced"
    return f"{_from_to(plan, version)}: {why}{_ended_trial(plan, version)}"


# --- roll-back ----------------------------------------------------------------------------------


def rollback(plan: TrafficPlan, layout: PipelineLayout, version: int | None, author: str) -> Move:
    """Decide to end the trial in progress, or else to go back to an earlier champion.

    The earlier champion is the last one in the plan's lineage that is kept. The version that is
    left is marked bad, so that no further roll-back returns to it.

    Raises:
        NotFoundError: If there is nothing to go back to.
        UserError: If the named version is not an earlier champion.
    """
    trial = plan.canary or plan.shadow
    if version is None and trial is not None:
        note = Note(author, f"the trial of version {trial.version} is ended manually")
        words = f"the trial of version {trial.version} ends; {_all_traffic_stays(plan)}"
        return Move(without_trial(plan, trial.version, note), words)
    earlier = _earlier_champions(plan)
    target = _target(plan, layout, earlier) if version is None else version
    if version is not None:
        layout.check_kept(version)
        _check_earlier(plan, layout, version, earlier)
    note = Note(author, f"rolled back from version {plan.champion} to version {target} manually")
    words = (
        f"{_from_to(plan, target)}: it was champion before{_ended_trial(plan, target)}; version "
        f"{plan.champion} is marked bad until it is promoted by number"
    )
    return Move(_rolled_back(plan, layout, target, note), words)


def _earlier_champions(plan: TrafficPlan) -> list[int]:
    """Return the versions to which one may go back, the last champion first."""
    line = plan.lineage[:-1] if plan.champion else ()
    return [v for v in reversed(line) if v != plan.champion and plan.mark_of(v) is None]


def _target(plan: TrafficPlan, layout: PipelineLayout, earlier: list[int]) -> int:
    kept = set(layout.kept_versions())
    if found := [version for version in earlier if version in kept]:
        return found[0]
    if plan.champion is None:
        raise NotFoundError(
            f"{layout.pipeline}: nothing is in service, so there is nothing to roll back from; put "
            f"a version in service with 'slipway promote {layout.pipeline} --version N' "
            f"(kept: {layout.kept_in_words})"
        )
    gone = f" (no longer kept: {', '.join(map(str, earlier))})" if earlier else ""
    raise NotFoundError(
        f"{layout.pipeline}: version {plan.champion} has no earlier champion to return to{gone}; "
        f"promote a version by number with 'slipway promote {layout.pipeline} --version N' "
        f"(kept: {layout.kept_in_words}), or take the pipeline out of service with "
        f"'slipway teardown {layout.pipeline}'"
    )


def _check_earlier(
    plan: TrafficPlan, layout: PipelineLayout, version: int, earlier: list[int]
) -> None:
    if version in earlier:
        return
    mark = plan.mark_of(version)
    reason = f"{mark.author or 'somebody'} rolled back from it" if mark else "it never was champion"
    if version == plan.champion:
        reason = "it is in service"
    known = ", ".join(map(str, earlier)) or "none"
    raise UserError(
        f"{layout.pipeline}: version {version} is not an earlier champion: {reason} (earlier "
        f"champions: {known}). To give it all traffic: "
        f"slipway promote {layout.pipeline} --version {version}"
    )


def _rolled_back(plan: TrafficPlan, layout: PipelineLayout, target: int, note: Note) -> TrafficPlan:
    """Return the plan that goes back to a version; the next one to go back to stands by."""
    earlier = _earlier_champions(plan)
    kept = set(layout.kept_versions())
    next_ones = [v for v in earlier[earlier.index(target) + 1 :] if v in kept][:1]
    mark = (BadVersion(version=plan.champion, author=note.author),) if plan.champion else ()
    return with_champion(plan, target, note).model_copy(
        update={"standby": tuple(next_ones), "bad": mark}
    )


# --- out of service -----------------------------------------------------------------------------


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
        note = Note(author, "taken out of service manually")
        return _in_force(client, client.propose(out_of_service(plan, note)))
    layout.check_kept(version)
    if version == plan.champion:
        raise UserError(
            f"{layout.pipeline}: version {version} is the champion and cannot be removed; promote "
            "another one first, or tear down the whole pipeline by naming no version"
        )
    if version in plan.versions:
        note = Note(author, f"version {version} is removed manually")
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


# --- words and checks ---------------------------------------------------------------------------


def _from_to(plan: TrafficPlan, version: int) -> str:
    if plan.champion == version:
        return f"version {version} keeps all traffic"
    if plan.champion is None:
        return f"version {version} gets all traffic (nothing is in service now)"
    return f"all traffic goes from version {plan.champion} to version {version}"


def _ended_trial(plan: TrafficPlan, version: int) -> str:
    trial = plan.canary or plan.shadow
    if trial is None or trial.version == version:
        return ""
    return f"; the trial of version {trial.version} ends"


def _all_traffic_stays(plan: TrafficPlan) -> str:
    if plan.champion is None:
        return "nothing is in service"
    return f"version {plan.champion} has all traffic"


def _in_force(client: AgentClient, plan: TrafficPlan) -> TrafficPlan:
    if seconds_until_taken_over(client, plan, _TIMEOUT_SECONDS) is None:
        raise ServiceUnavailableError(
            f"{plan.pipeline}: the plan is stored (generation {plan.generation}) but traffic does "
            f"not follow it after {_TIMEOUT_SECONDS:g} s; see the agent's log"
        )
    return plan
