"""What is kept and told of a phase."""

from components.deploy.canary.state import CanaryState
from components.deploy.judging.accounts import ALPHA_SHARES, Phase, bound
from components.deploy.judging.judge import Judgement, Terms
from contract.records.traffic import LadderStep

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


def time_to_go(judgement: Judgement, counted: Phase, terms: Terms) -> str:
    """Return how long an open phase will take at its rate so far, in words."""
    canary = counted.canary
    events = canary.requests if terms.disagreement_limit is None else canary.compared
    if judgement.missing and not events:
        return "no traffic yet"
    left = judgement.missing * counted.seconds / events if events else 0.0
    return f"about {max(left, judgement.missing_seconds):.0f} s to go"
