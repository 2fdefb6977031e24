"""One rollout that is judged from outside: its counts since its beginning, and the bets on it."""

from datetime import datetime

from components.deploy.judging.accounts import (
    ALPHA_SHARES,
    Accounts,
    Phase,
    after,
    bound,
    stakes,
    with_stake,
)
from components.deploy.judging.consents import Terms
from components.deploy.judging.evidence import growth
from components.deploy.judging.judge import Judgement, judge
from contract.records.advice import Advice, Question
from contract.records.record import Record
from contract.records.traffic import ArmObservation
from contract.schema.serving import DeployConfig


class Case(Record):
    """The state of one rollout after each question. `rungs` is how many have begun.

    `failure` is why it has failed; from then on that is the answer, until another revision comes.
    """

    rollout: str
    revision: str
    step: str
    rungs: int = 0
    phase: Phase = Phase()
    accounts: Accounts = Accounts()
    canary: ArmObservation
    stable: ArmObservation
    asked_at: datetime
    failure: Advice | None = None


def begun(question: Question, config: DeployConfig) -> Case:
    """Return the case of a rollout at its first question, whose counts are where it begins."""
    case = Case(
        rollout=question.rollout,
        revision=question.revision,
        step=question.step,
        canary=question.canary,
        stable=question.stable,
        asked_at=question.asked_at,
    )
    return on_next_rung(case, question.step, config)


def on_next_rung(case: Case, step: str, config: DeployConfig) -> Case:
    """Return the case at the beginning of a rung, whose bets get their stakes.

    Who walks more rungs than the configured ladder has no fresh stakes on those beyond.
    """
    amounts = stakes(len(config.rungs_percent), has_shadow=False)
    amount = amounts[case.rungs] if case.rungs < len(amounts) else 0.0
    changes = {
        "step": step,
        "rungs": case.rungs + 1,
        "phase": Phase(),
        "accounts": with_stake(case.accounts, amount),
    }
    return case.model_copy(update=changes)


def is_another(case: Case, question: Question, config: DeployConfig) -> bool:
    """Tell whether a question is about another trial than the one of a case.

    One that nobody has asked about for longer than a trial may take is over.
    """
    silent = (question.asked_at - case.asked_at).total_seconds()
    return case.revision != question.revision or silent > config.timeout_seconds


def heard(case: Case, question: Question, config: DeployConfig) -> tuple[Case, Advice]:
    """Return the case after a question, and the answer to it."""
    if case.failure is not None:
        return case, case.failure
    if case.step != question.step:
        case = on_next_rung(case, question.step, config)
    canary = growth(case.canary, question.canary)
    stable = growth(case.stable, question.stable)
    grown = case.phase.grown(canary, stable, config.warm_up_requests)
    seconds = max(0.0, (question.asked_at - case.asked_at).total_seconds())
    phase, accounts = after(seconds, grown, case.accounts, config, None)
    advice = _advice(judge(phase, accounts, Terms(config)), phase, accounts, config)
    changes = {
        "phase": phase,
        "accounts": accounts,
        "canary": question.canary,
        "stable": question.stable,
        "asked_at": question.asked_at,
        "failure": advice if advice.decision == "fail" else None,
    }
    return case.model_copy(update=changes), advice


def _advice(judgement: Judgement, phase: Phase, accounts: Accounts, config: DeployConfig) -> Advice:
    return Advice(
        decision=judgement.decision,
        reason=judgement.reason,
        decided_by=judgement.decided_by,
        requests=phase.canary.requests,
        stable_requests=phase.stable.requests,
        missing=judgement.missing,
        evidence={test: round(found, 3) for test, found in accounts.evidence().items()},
        bounds={test: round(bound(test, config.alpha), 1) for test in ALPHA_SHARES},
    )
