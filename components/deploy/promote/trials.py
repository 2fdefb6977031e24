"""How the trial of a kept version ended, read from the records of the run that made it."""

from dataclasses import dataclass

from components.deploy.canary.state import STATE_FILE
from contract.errors import NotFoundError
from contract.layout import PipelineLayout, RunLayout
from contract.records.package import PackageManifest
from contract.records.record import Result
from contract.records.traffic import Approval, DeployRecord, TrafficPlan


@dataclass(frozen=True)
class Trial:
    """Whether a version may be promoted on the strength of its trial, and why, as a clause."""

    has_passed: bool
    words: str


def trial_of(layout: PipelineLayout, version: int, plan: TrafficPlan) -> Trial:
    """Return how a version's trial ended; one without records counts as not tried.

    A version that the traffic plan has in its lineage has passed: it was champion, and nobody
    rolled back from it. A mark in the plan outweighs every record.

    Raises:
        DataError: If a record cannot be read.
    """
    if (mark := plan.mark_of(version)) is not None:
        why = f": {mark.reason}" if mark.reason else ""
        return Trial(False, f"{mark.author or 'somebody'} rolled back from it{why}")
    on_trial = plan.canary or plan.shadow
    if on_trial is not None and on_trial.version == version:
        return Trial(False, "its trial is not over")
    if version == plan.champion:
        return Trial(True, "it is in service")
    if version in plan.lineage:
        return Trial(True, "it was champion before")
    manifest = PackageManifest.read(layout.package_manifest(version))
    return _recorded(layout.run(manifest.provenance.run_id), version)


def _recorded(run: RunLayout, version: int) -> Trial:
    canary = _stage(run, "canary", version)
    if canary is None:
        if (run.step("canary") / STATE_FILE).exists():
            return Trial(False, "its trial was interrupted before a decision")
        return Trial(False, "no record of a trial was found")
    if not canary.has_passed:
        return Trial(False, _ended("its canary", canary))
    answer = Approval.of(run.approval, version)
    if answer is not None and not answer.is_approved:
        return Trial(False, f"its canary passed, but {answer.in_words}")
    promoted = _stage(run, "promote", version)
    if promoted is not None and promoted.outcome == "refused":
        return Trial(False, _ended("its promotion", promoted))
    return Trial(True, _ended("its canary", canary))


def _stage(run: RunLayout, stage: str, version: int) -> DeployRecord | None:
    """Return how a stage ended; None where it did not, or was about another package."""
    try:
        record = Result.read(run.result(stage)).detail_as(DeployRecord)
    except NotFoundError:
        return None
    return record if record.version == version else None


def _ended(what: str, record: DeployRecord) -> str:
    verbs = {"passed": "passed", "first": "passed as the first version"}
    verb = verbs.get(record.outcome, f"ended as '{record.outcome.replace('_', ' ')}'")
    why = f": {record.reasons[0]}" if record.reasons else ""
    return f"{what} {verb}{why}"
