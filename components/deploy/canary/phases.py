"""What is kept and told of a phase."""

from dataclasses import replace

from components.deploy.canary.state import CanaryState
from components.deploy.judging.accounts import ALPHA_SHARES, Accounts, Phase, bound
from components.deploy.judging.consents import Terms, consents_of
from components.deploy.judging.judge import Judgement
from contract.records.traffic import LadderStep
from contract.schema.serving import DeployConfig

_DECISION = {"pass": "pass", "fail": "rollback", "continue": "inconclusive"}


def ladder_step(
    name: str, percent: int, state: CanaryState, judgement: Judgement, alpha: float
) -> LadderStep:
    """Return what is kept of a phase."""
    canary, stable = state.counted.canary, state.counted.stable
    is_open = judgement.decision == "continue" and state.outlook
    return LadderStep(
        name=name,
        weight_percent=percent,
        requests=canary.requests,
        errors=canary.errors,
        client_errors=canary.client_errors,
        stable_requests=stable.requests,
        stable_errors=stable.errors,
        stable_client_errors=stable.client_errors,
        decision=_DECISION[judgement.decision],
        decided_by=judgement.decided_by,
        evidence={test: round(found, 3) for test, found in state.accounts.evidence().items()},
        bounds={test: round(bound(test, alpha), 1) for test in ALPHA_SHARES},
        reason=f"{judgement.reason}; {state.outlook}" if is_open else judgement.reason,
        seconds=round(state.counted.seconds, 3),
    )


def out_of_time(judgement: Judgement, accounts: Accounts, config: DeployConfig) -> Judgement:
    """Return the judgement of a version for which there is no more time, with what is against it.

    That is the test nearest to its bound, if what was staked on it has grown at all.
    """
    found = accounts.evidence()
    name = max(found, key=lambda test: found[test] / bound(test, config.alpha), default="")
    words = f"no decision within {config.timeout_seconds:,.0f} s: {judgement.reason}"
    if name and found[name] > 1.0:
        needed = bound(name, config.alpha)
        words += f"; evidence against it: {name} {found[name]:,.1f} of {needed:,.0f}"
    return replace(judgement, reason=words)


def in_words(seconds: float | None) -> str:
    """Return how long an open phase will take, in words."""
    return "time to go unknown" if seconds is None else f"about {seconds:.0f} s to go"


def seconds_to_go(judgement: Judgement, counted: Phase, terms: Terms) -> float | None:
    """Return how long an open phase will take at its rates so far, if no further request is bad.

    None where nobody can say: without traffic, and while stable itself fails.
    """
    consents = consents_of(counted, terms)
    if any(one.missing and not one.bound and one.test == "errors" for one in consents):
        return None
    events = counted.canary.requests
    if terms.disagreement_limit is not None:
        events = counted.canary.compared
    of_canary = max(one.missing for one in consents)
    timed_of_stable = counted.timed()[1].timed
    of_stable = max(0, terms.config.min_requests_per_step - timed_of_stable)
    waits = [
        _seconds(of_canary, events, counted.seconds),
        _seconds(of_stable, counted.stable.requests, counted.seconds),
    ]
    known = [wait for wait in waits if wait is not None]
    if len(known) < len(waits):
        return None
    return round(max(*known, judgement.missing_seconds), 1)


def _seconds(missing: int, events: int, seconds: float) -> float | None:
    if not missing:
        return 0.0
    return missing * seconds / events if events else None
