"""How a run ended, read from its records, for local runs and runs in Airflow alike."""

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from contract.errors import EXIT_DONE, EXIT_UNEXPECTED, EXIT_USER_ERROR, NotFoundError
from contract.layout import RunLayout
from contract.records.evaluation import BlessRecord
from contract.records.package import PackageRecord
from contract.records.record import Failure, Result
from contract.records.traffic import Approval, DeployRecord
from contract.steps import STEPS
from contract.storage import Attempt


@dataclass(frozen=True)
class Ending:
    """How a run ended: the exit code, and the outcome in words."""

    exit_code: int
    outcome: str
    reasons: tuple[str, ...] = ()
    version: int | None = None
    failed_step: str = ""
    log: tuple[str, ...] = ()


def read_result(run: RunLayout, step: str) -> Result | None:
    """Return a step's result, or None where it has none."""
    try:
        return Result.read(run.result(step))
    except NotFoundError:
        return None


def refusal_of(run: RunLayout) -> Ending | None:
    """Return the ending of a run whose bless, canary or person refused the model, else None.

    A refusal or a roll-back is a result, with exit code 0: nothing went wrong.
    """
    if (blessed := read_result(run, "bless")) is not None:
        verdict = blessed.detail_as(BlessRecord)
        if not verdict.is_blessed:
            return Ending(EXIT_DONE, "not blessed", verdict.reasons)
    if (result := read_result(run, "canary")) is not None:
        tried = result.detail_as(DeployRecord)
        if not tried.continues_run:
            return Ending(EXIT_DONE, tried.outcome, tried.reasons, tried.version)
        answer = Approval.of(run.approval, tried.version)
        if answer is not None and not answer.is_approved:
            return Ending(EXIT_DONE, "not approved", (answer.in_words,), tried.version)
    return None


def ending_of(run: RunLayout) -> Ending | None:
    """Return how a run ended by its own records; None if it has not deployed or refused."""
    if (refusal := refusal_of(run)) is not None:
        return refusal
    if (result := read_result(run, "promote")) is not None:
        deployed = result.detail_as(DeployRecord)
        return Ending(EXIT_DONE, deployed.outcome, deployed.reasons, deployed.version)
    return None


def ended_before(run: RunLayout) -> Ending | None:
    """Return how an earlier call of this run ended its trial, and when; None if none has.

    What it says of traffic was true then: other versions may have come into service since.
    """
    ending = ending_of(run)
    result = read_result(run, "promote") or read_result(run, "canary")
    if ending is None or result is None:
        return ending
    at = (result.started_at + timedelta(seconds=result.seconds)).astimezone()
    note = (
        f"decided on {at:%Y-%m-%d at %H:%M} and not again; 'slipway status {run.pipeline}' shows "
        "which version is in service now"
    )
    return replace(ending, reasons=(*ending.reasons, note))


def failed(run: RunLayout) -> Ending | None:
    """Return the ending of a run whose step failed and was not tried again; None if none has.

    Of several (training and evaluation run side by side) it is the one that failed first: the
    others may have failed because of it.
    """
    found = [one for step in STEPS if (one := _lasting_failure(run, step)) is not None]
    if not found:
        return None
    first = min(found, key=lambda one: one.failed_at)
    return Ending(first.exit_code, "failed", (first.reason,), failed_step=first.step)


def _lasting_failure(run: RunLayout, step: str) -> Failure | None:
    try:
        found = Failure.read(run.failure(step))
    except NotFoundError:
        return None
    is_newest = found.attempt == Attempt.newest(run.attempts(step))
    return found if is_newest and not run.result(step).exists() else None


def packaged(run: RunLayout) -> Ending | None:
    """Return the ending of a run that has made a package and stopped there; else None."""
    result = read_result(run, "package")
    if result is None or Attempt.newest(run.attempts("canary")):
        return None
    return Ending(EXIT_DONE, "packaged", version=result.detail_as(PackageRecord).version)


def failure(step: str, code: int, log: Path | None = None) -> Ending:
    """Return the ending of a run whose step failed; `code` is what the process ended with.

    All but a user's error may be retried: a signal (negative or 128 + N), a lost record (0).
    """
    from cli.stack.logs import tail

    lines = tuple(tail(log)) if log is not None else ()
    code = code if code == EXIT_USER_ERROR else EXIT_UNEXPECTED
    return Ending(code, "failed", failed_step=step, log=lines)


def figures(run: RunLayout) -> dict[str, dict[str, float]]:
    """Return every step's metrics, by step."""
    results = {step: read_result(run, step) for step in STEPS}
    return {step: dict(r.metrics) for step, r in results.items() if r is not None}
