"""The canary as a whole: may the version be tried, must it wait, and how did its trial end."""

import logging

from components.deploy.canary.state import STATE_FILE, CanaryState
from components.deploy.canary.trial import InterruptedTrialError
from components.deploy.canary.walk import READY_TIMEOUT_SECONDS, Canary
from components.deploy.data_plane import seconds_until_taken_over
from components.deploy.deployment import Deployment
from components.deploy.plans import Note, on_standby, without_trial
from components.runs.agent_client import PlanConflictError
from contract.errors import NotFoundError
from contract.records.traffic import DeployRecord, TrafficPlan

log = logging.getLogger("slipway")

_POLL_SECONDS = 1.0
_WAITING_WORDS_SECONDS = 15.0


def deploy(deployment: Deployment) -> tuple[DeployRecord, dict[str, float]]:
    """Try a version on real traffic; return how it ended, and the figures of the trial.

    Every outcome but `passed` and `first` leaves the champion with all traffic, or a plan that
    somebody else made.

    Raises:
        ServiceUnavailableError: If the agent is unavailable for long; a retry continues.
    """
    state = _state_of_killed(deployment)
    if state is None:
        plan = _wait_for_other_trials(deployment)
        if reason := _objection(deployment, plan):
            return _record(deployment, "refused", plan.champion, reason), {}
        if plan.champion is None:
            return _first(deployment, plan), {}
        state = CanaryState(version=deployment.version, champion=plan.champion, plan=plan)
    deployment.tracker.register_model(
        deployment.layout.pipeline,
        deployment.layout.version(deployment.version),
        deployment.version,
        "challenger",
    )
    return _try(deployment, Canary(deployment, state))


def _state_of_killed(deployment: Deployment) -> CanaryState | None:
    try:
        state = CanaryState.read(deployment.output / STATE_FILE)
    except NotFoundError:
        return None
    if state.version != deployment.version:
        return None
    log.info(
        "%s: continuing the trial of version %d: %d phases passed, %d requests in this one",
        *(deployment.layout.pipeline, state.version, state.phase, state.canary.requests),
    )
    return state


# --- before the trial ---------------------------------------------------------------------------


def _wait_for_other_trials(deployment: Deployment) -> TrafficPlan:
    """Return the plan in force once nobody else's trial is in it, or when the time is over."""
    clock, timeout = deployment.clock, deployment.config.deploy.timeout_seconds
    started = clock.monotonic()
    last_words = -_WAITING_WORDS_SECONDS
    while True:
        plan = deployment.client.plan(deployment.layout.pipeline)
        waited = clock.monotonic() - started
        trial = _other_trial(deployment, plan)
        if not trial or waited >= timeout:
            return plan
        if waited - last_words >= _WAITING_WORDS_SECONDS:
            last_words = waited
            log.info(
                "%s: version %d waits %.0f of at most %.0f s: %s",
                *(plan.pipeline, deployment.version, waited, timeout, trial),
            )
        clock.sleep(_POLL_SECONDS)


def _other_trial(deployment: Deployment, plan: TrafficPlan) -> str:
    trial = plan.canary or plan.shadow
    if trial is None or plan.author == deployment.author:
        return ""
    return f"version {trial.version} is on trial by {plan.author or 'somebody'}"


def _objection(deployment: Deployment, plan: TrafficPlan) -> str:
    """Say why the version may not be tried; empty if it may."""
    version, bless = deployment.version, deployment.bless
    if bless is not None and not bless.is_blessed:
        return f"version {version} is not blessed: {'; '.join(bless.reasons)}"
    if plan.champion == version:
        return f"version {version} is in service already"
    if trial := _other_trial(deployment, plan):
        return (
            f"{trial}, still after {deployment.config.deploy.timeout_seconds:g} s; end that one "
            f"with 'slipway rollback {plan.pipeline}', or run again when it is over"
        )
    compared_with = deployment.manifest.compared_with_version
    if bless is not None and compared_with != plan.champion:
        return (
            f"version {version} was compared with {_named(compared_with)}, but "
            f"{_named(plan.champion)} is in service now (by {plan.author or 'nobody'}): run the "
            "pipeline again to compare it with that"
        )
    return ""


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def _first(deployment: Deployment, plan: TrafficPlan) -> DeployRecord:
    """Start the version without traffic; there is nothing that it could be compared with."""
    version, client = deployment.version, deployment.client
    note = Note(deployment.author, f"version {version} gets ready as the first version")
    while version not in plan.standby:
        try:
            plan = client.propose(on_standby(plan, version, note))
        except PlanConflictError as conflict:
            plan = conflict.current
            if plan.champion is not None:
                return _record(deployment, "refused", plan.champion, str(conflict))
    timeout = min(READY_TIMEOUT_SECONDS, deployment.config.deploy.timeout_seconds)
    seconds = seconds_until_taken_over(client, plan, timeout, [version], deployment.clock)
    if seconds is None:
        note = Note(deployment.author, f"version {version} was not ready in time")
        client.propose(without_trial(client.plan(plan.pipeline), version, note))
        reason = f"version {version} was not ready within {timeout:g} s; see its server's log"
        return _record(deployment, "inconclusive", None, reason)
    reason = (
        f"nothing was in service to compare version {version} with; it is ready after "
        f"{seconds:.1f} s and gets all traffic when it is promoted"
    )
    return _record(deployment, "first", None, reason)


# --- the trial and its record -------------------------------------------------------------------


def _try(deployment: Deployment, canary: Canary) -> tuple[DeployRecord, dict[str, float]]:
    outcome: str
    try:
        outcome = canary.walk().ending
        reasons = _reasons(canary)
    except InterruptedTrialError as interruption:
        outcome, reasons = "refused", (str(interruption),)
    if outcome != "passed":
        deployment.tracker.remove_alias(deployment.layout.pipeline, "challenger")
    state = canary.state
    rungs = [step for step in state.ladder if step.weight_percent]
    unfinished = state.canary if state.is_entered and canary.percent else None
    record = _record(deployment, outcome, state.champion, *reasons).model_copy(
        update={
            "canary_requests": sum(s.requests for s in rungs)
            + (unfinished.requests if unfinished else 0),
            "canary_errors": sum(s.errors for s in rungs)
            + (unfinished.errors if unfinished else 0),
            "ladder": state.ladder,
        }
    )
    return record, _figures(canary, record)


def _reasons(canary: Canary) -> tuple[str, ...]:
    state = canary.state
    rungs = [step for step in state.ladder if step.weight_percent]
    requests, errors = sum(s.requests for s in rungs), sum(s.errors for s in rungs)
    if state.ending == "passed":
        return (f"passed {len(rungs)} rungs with {errors:,} errors in {requests:,} requests",)
    words = "rolled back" if state.ending == "rolled_back" else "inconclusive, so rolled back"
    where = (
        f"after {requests:,} canary requests"
        if rungs
        else "in shadow, before it answered any caller"
    )
    first = f"{words} {where} (at {state.ladder[-1].name}): {state.reason}"
    seconds = canary.withdrawal_seconds
    if seconds is None:
        return (first, "the data plane has not applied the roll-back yet; see the agent's log")
    return (first, f"stable had all traffic {seconds:.2f} s after the decision")


def _figures(canary: Canary, record: DeployRecord) -> dict[str, float]:
    figures: dict[str, float] = {
        "canary_requests": record.canary_requests,
        "canary_errors": record.canary_errors,
    }
    if canary.withdrawal_seconds is not None:
        figures["rollback_seconds"] = canary.withdrawal_seconds
    return figures


def _record(
    deployment: Deployment, outcome: str, champion: int | None, *reasons: str
) -> DeployRecord:
    return DeployRecord.model_validate(
        {
            "stage": "canary",
            "outcome": outcome,
            "version": deployment.version,
            "champion_version": champion,
            "reasons": reasons,
        }
    )
