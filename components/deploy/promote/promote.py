"""The last step: a version that passed becomes the champion, and what is too old goes."""

import logging

from components.deploy.canary.teller import tell_promotion
from components.deploy.canary.walk import READY_TIMEOUT_SECONDS
from components.deploy.data_plane import seconds_until_taken_over
from components.deploy.deployment import Deployment
from components.deploy.plans import Note, with_champion
from components.runs import retention
from components.runs.agent_client import PlanConflictError
from components.runs.champions import best_kept
from contract.errors import ServiceUnavailableError
from contract.records.traffic import DeployRecord, Hold, TrafficPlan
from contract.schema.pipeline import PipelineConfig
from contract.storage import digest_directory

log = logging.getLogger("slipway")

_HOLD_POLL_SECONDS = 5.0


class ChangedMeanwhileError(Exception):
    """Between canary and promotion somebody changed the plan; the verdict no longer holds."""


def promote(deployment: Deployment, verdict: DeployRecord) -> DeployRecord:
    """Give all traffic to a version whose canary ended well; keep the last champion on standby.

    The verdict is checked again here: nobody gets into service by this door alone.

    Raises:
        ServiceUnavailableError: If the data plane does not apply the plan; a retry continues.
    """
    if reason := _objection(deployment, verdict):
        return _record(deployment, verdict, "refused", reason)
    try:
        plan = _put_in_force(deployment, verdict)
    except ChangedMeanwhileError as change:
        return _record(deployment, verdict, "refused", str(change))
    version, layout = deployment.version, deployment.layout
    deployment.tracker.register_model(layout.pipeline, layout.version(version), version, "champion")
    deployment.tracker.remove_alias(layout.pipeline, "challenger")
    config = deployment.config
    best = best_kept(layout, plan, config) if isinstance(config, PipelineConfig) else set[int]()
    removed = retention.apply(layout, config.retention, plan, deployment.clock.now(), best)
    replaced = verdict.champion_version
    words = f"in place of version {replaced}" if replaced else "the first version in service"
    reasons = (f"version {version} has all traffic, {words}", *removed.in_words())
    tell_promotion(deployment, reasons[0])
    return _record(deployment, verdict, "promoted", *reasons)


def _put_in_force(deployment: Deployment, verdict: DeployRecord) -> TrafficPlan:
    """Propose the new champion until it is in the plan, and see the data plane follow."""
    version = deployment.version
    note = Note(deployment.author, f"version {version} is promoted")
    while True:
        deployment.check_attempt()
        plan = deployment.client.plan(deployment.layout.pipeline)
        if plan.champion == version and plan.canary is None:
            break
        if plan.hold is not None:
            _wait_for_its_end(deployment, plan.hold)
            continue
        _check_unchanged(deployment, verdict, plan)
        try:
            plan = deployment.client.propose(with_champion(plan, version, note))
            break
        except PlanConflictError as conflict:
            log.info("%s", conflict)
    _see_it_in_force(deployment, plan)
    return plan


def _wait_for_its_end(deployment: Deployment, hold: Hold) -> None:
    """Say, from time to time, who holds a version that has passed; a person resumes it."""
    log.info(
        "%s: version %d passed and is paused by %s: 'slipway rollout %s --resume' promotes it",
        *(deployment.layout.pipeline, hold.version, hold.author, deployment.layout.pipeline),
    )
    deployment.clock.sleep(_HOLD_POLL_SECONDS)


def _objection(deployment: Deployment, verdict: DeployRecord) -> str:
    """Say why the version may not be promoted by its own papers; empty if it may."""
    version, manifest = deployment.version, deployment.manifest
    if deployment.bless is not None and not deployment.bless.is_blessed:
        return f"version {version} is not blessed: {'; '.join(deployment.bless.reasons)}"
    if not verdict.has_passed:
        return f"version {version} did not pass its canary: {verdict.outcome}"
    if verdict.version != version:
        return f"the canary judged version {verdict.version}, the package is version {version}"
    found = digest_directory(deployment.layout.version(version) / manifest.model)
    if found != manifest.digest:
        return f"version {version} was changed on storage: {found}, expected {manifest.digest}"
    return ""


def _check_unchanged(deployment: Deployment, verdict: DeployRecord, plan: TrafficPlan) -> None:
    """Raise ChangedMeanwhileError if somebody changed what the canary's verdict rests on."""
    version, trial = deployment.version, plan.canary or plan.shadow
    if plan.champion != verdict.champion_version:
        deed = f"put version {plan.champion} in service, expected {verdict.champion_version}"
    elif plan.mark_of(version) is not None:
        deed = f"rolled back from version {version}"
    elif version not in plan.versions:
        deed = f"took version {version} out of service"
    elif trial is not None and trial.version != version:
        deed = f"started a trial of version {trial.version}"
    else:
        return
    raise ChangedMeanwhileError(
        f"{plan.author or 'somebody'} {deed} since the canary ended (generation "
        f"{plan.generation}); that plan was not changed"
    )


def _see_it_in_force(deployment: Deployment, plan: TrafficPlan) -> None:
    seconds = seconds_until_taken_over(
        *(deployment.client, plan, READY_TIMEOUT_SECONDS, [deployment.version]),
        clock=deployment.clock,
    )
    if seconds is None:
        raise ServiceUnavailableError(
            f"{plan.pipeline}: the data plane has not taken over plan {plan.generation} (version "
            f"{deployment.version} at 100 %) within {READY_TIMEOUT_SECONDS:g} s; see the agent's "
            "log, then run 'promote' again"
        )
    log.info(
        "%s: version %d has all traffic after %.2f s", plan.pipeline, deployment.version, seconds
    )


def _record(
    deployment: Deployment, verdict: DeployRecord, outcome: str, *reasons: str
) -> DeployRecord:
    return verdict.model_validate(
        {
            **verdict.model_dump(),
            "stage": "promote",
            "outcome": outcome,
            "version": deployment.version,
            "reasons": reasons,
        }
    )
