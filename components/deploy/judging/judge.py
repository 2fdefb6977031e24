"""The judge of a canary: counts in, a decision and its reason out. It reads and waits for nothing.

*Roll back* on evidence that the canary is worse than stable at the same time: the bets of
`accounts`, under one `alpha` for the whole way.

*Pass* a phase on evidence that it is good there, each phase from nothing: every test of `consents`
at `beta`, after a least time and a least sample. What is not measured is never a pass; without
traffic it waits.
"""

import math
from dataclasses import dataclass, replace

from components.deploy.judging.accounts import QUANTILES, Accounts, Phase, bound, too_slow_ms
from components.deploy.judging.consents import (
    OF_STABLE,
    Sample,
    Terms,
    client_errors,
    consents_of,
    disagreement,
    errors,
    exp,
)
from components.deploy.judging.sequential import surely_above
from components.deploy.judging.users import log_evidence_of_users
from contract.records.traffic import Decision
from contract.schema.serving import DeployConfig


@dataclass(frozen=True)
class Judgement:
    """A decision in words; `missing` is how many more clean requests would let it pass."""

    decision: Decision
    reason: str
    missing: int = 0
    missing_seconds: float = 0.0
    decided_by: str = ""


def judge(phase: Phase, accounts: Accounts, terms: Terms) -> Judgement:
    """Judge a canary by what was counted in one phase and by the bets of the whole way."""
    if not (test := accounts.proven(terms.config.alpha)):
        return _passing(phase, terms)
    needed = bound(test, terms.config.alpha)
    told = (
        f"{_in_words(test, phase, terms)}: {test} decided, evidence "
        f"{accounts.evidence()[test]:,.0f}, from {needed:,.0f} on it is rolled back"
    )
    if (of_users := _evidence_of_users(test, phase, terms)) >= needed:
        return Judgement("fail", told, decided_by=test)
    # What few users may be the reason of speaks neither for the version nor against it.
    reason = f"{told}, but these may be few users: evidence of users {of_users:,.0f}"
    found = _passing(phase, terms)
    if found.decision == "pass":
        return replace(found, reason=f"{reason}; {found.reason}")
    return replace(found, reason=reason, missing=max(1, found.missing), decided_by="users")


def _passing(phase: Phase, terms: Terms) -> Judgement:
    """Return whether a canary that nothing speaks against passes its phase."""
    config = terms.config
    if seconds := max(0.0, config.min_seconds_per_step - phase.seconds):
        so_far = errors(phase, config)
        return Judgement("continue", so_far.words, so_far.missing, seconds, "time")
    consents = consents_of(phase, terms)
    if open_tests := [consent for consent in consents if consent.missing]:
        reason = "; ".join(consent.words for consent in open_tests)
        missing = max(consent.missing for consent in open_tests)
        decided_by = ", ".join(consent.test for consent in open_tests)
        return Judgement("continue", reason, missing, decided_by=decided_by)
    reason = "; ".join(consent.words for consent in consents)
    return Judgement("pass", reason, decided_by=", ".join(consent.test for consent in consents))


def _evidence_of_users(test: str, phase: Phase, terms: Terms) -> float:
    """Return the evidence that it is not a few users who are bad; inf where users do not count.

    Of the canary's ratio and of stable's those ends count that speak least against the canary: the
    test may have been proven on a rung before, and this one may have few requests. In the shadow
    both versions have all users.
    """
    share, error = terms.sticky_percent / 100, OF_STABLE * terms.config.alpha
    if not share:
        return math.inf
    canary, stable = _bad_samples(test, phase, terms.config)
    at_least = surely_above(*canary, error)
    at_most = 1.0 - surely_above(stable.total - stable.bad, stable.total, error)
    return exp(log_evidence_of_users(at_least, at_most, terms.config.sticky_users, share))


def _bad_samples(test: str, phase: Phase, config: DeployConfig) -> tuple[Sample, Sample]:
    """Return how many of (canary, stable) are bad by a test."""
    arms = phase.canary, phase.stable
    if test == "client errors":
        canary, stable = (Sample(one.client_errors, one.requests) for one in arms)
    elif test not in QUANTILES:
        canary, stable = (Sample(min(one.errors, one.requests), one.requests) for one in arms)
    else:
        arms = phase.timed()
        limit_ms = too_slow_ms(arms[1].latency_ms(QUANTILES[test]), config)
        canary, stable = (Sample(one.slower_than(limit_ms), one.timed) for one in arms)
    return canary, stable


def _in_words(test: str, phase: Phase, terms: Terms) -> str:
    """Say what the test that decided has seen in this phase."""
    canary, stable = phase.timed()
    if test.startswith("p9"):
        quantile = int(test[1:]) / 100
        return (
            f"{test} {canary.latency_ms(quantile):.1f} ms over {canary.timed:,} requests, stable "
            f"{stable.latency_ms(quantile):.1f} ms over {stable.timed:,}"
        )
    if test == "client errors":
        return f"{client_errors(phase, terms.config).words} in {phase.canary.requests:,} requests"
    if test == "disagreement" and terms.disagreement_limit is not None:
        return disagreement(phase.canary, terms.disagreement_limit).words
    return errors(phase, terms.config).words
