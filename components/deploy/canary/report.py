"""What people and machines are told of a trial: the contract's Rollout, made from its state."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from components.deploy.canary.phases import seconds_to_go
from components.deploy.canary.state import CanaryState
from components.deploy.deployment import Deployment
from components.deploy.judging.accounts import ALPHA_SHARES, Phase, bound
from components.deploy.judging.consents import Consent, Terms, consents_of
from components.deploy.judging.evidence import Counts
from components.deploy.judging.judge import Judgement
from components.deploy.judging.ladder import Traffic, seconds_on_rung
from components.deploy.judging.whole_way import Rung
from contract.records.rollout import (
    MOST_EVENTS,
    ArmCounts,
    Rollout,
    RolloutEvent,
    RolloutState,
    RolloutTest,
)
from contract.records.traffic import Hold

# What is timed has one test for passing, which the p95 of both arms decides.
_SIDES = {"p95": "latency"}


@dataclass(frozen=True)
class Moment:
    """Where a trial is: its phase by name and weight, the way, and what holds it there."""

    name: str
    percent: int
    weights_percent: tuple[int, ...]
    terms: Terms
    hold: Hold | None
    problems: tuple[str, ...] = ()


def rollout_of(
    deployment: Deployment, state: CanaryState, judgement: Judgement, moment: Moment
) -> Rollout:
    """Return what is known of a trial that is under way."""
    config, counted = moment.terms.config, state.counted
    to_decision = seconds_to_go(judgement, counted, moment.terms)
    return Rollout(
        pipeline=deployment.layout.pipeline,
        author=deployment.author,
        version=state.version,
        champion=state.champion,
        state="running" if moment.hold is None else "paused",
        phase=moment.name,
        weights_percent=moment.weights_percent,
        canary=_arm(state.version, moment.percent, counted.canary, counted.timed()[0]),
        stable=_arm(state.champion, 100 - moment.percent, counted.stable, counted.timed()[1]),
        tests=tuple(tests_of(state, moment.terms)),
        decision=judgement.decision,
        reason=judgement.reason,
        outlook=state.outlook,
        seconds=round(counted.seconds, 3),
        spent_seconds=round(state.spent_seconds, 3),
        timeout_seconds=config.timeout_seconds,
        seconds_to_decision=to_decision,
        seconds_to_end=_seconds_to_end(to_decision, counted, moment),
        hold=moment.hold,
        problems=moment.problems,
        events=state.events,
        looked_at=deployment.clock.now(),
    )


def ended(
    rollout: Rollout, state: RolloutState, reason: str, percent: int, at: datetime
) -> Rollout:
    """Return a rollout as its controller leaves it, with the share that the version has then."""
    event = RolloutEvent(
        at=at, kind="ended", phase=rollout.phase, weight_percent=percent, words=f"{state}: {reason}"
    )
    changes = {
        "state": state,
        "reason": reason,
        "hold": None,
        "seconds_to_decision": None,
        "seconds_to_end": None,
        "events": with_event(rollout.events, event),
        "looked_at": at,
        "canary": rollout.canary.model_copy(update={"weight_percent": percent}),
        "stable": rollout.stable.model_copy(update={"weight_percent": 100 - percent}),
    }
    return rollout.model_copy(update=changes)


def with_event(events: Sequence[RolloutEvent], event: RolloutEvent) -> tuple[RolloutEvent, ...]:
    """Return the events with one more; of very many the first and the latest are kept."""
    whole = (*events, event)
    return whole if len(whole) <= MOST_EVENTS else (whole[0], *whole[-(MOST_EVENTS - 1) :])


def is_held(events: Sequence[RolloutEvent]) -> bool:
    """Tell whether the last word on pauses is that the trial is on hold."""
    words = [event.kind for event in events if event.kind in ("paused", "resumed")]
    return words[-1:] == ["paused"]


def tests_of(state: CanaryState, terms: Terms) -> list[RolloutTest]:
    """Return every test of the phase, those that can roll back first."""
    phase, config = state.counted, terms.config
    evidence = state.accounts.evidence()
    consents = {consent.test: consent for consent in consents_of(phase, terms)}
    found = [
        _judging(name, evidence[name], bound(name, config.alpha), phase, consents)
        for name in ALPHA_SHARES
        if name in evidence and (name != "disagreement" or terms.disagreement_limit is not None)
    ]
    if whole_way := consents.get("whole way"):
        found.append(_whole_way(whole_way, phase, terms.earlier or ()))
    found.append(_sample(consents["sample"], phase, terms))
    least = config.min_seconds_per_step
    words = f"{phase.seconds:,.0f} of at least {least:,.0f} s"
    time = RolloutTest(name="time", unit="seconds", in_favour=round(phase.seconds, 1), words=words)
    agreed = {"passes_at": least, "has_agreed": phase.seconds >= least}
    return [*found, time.model_copy(update=agreed)]


def _judging(
    name: str, evidence: float, fails_at: float, phase: Phase, consents: dict[str, Consent]
) -> RolloutTest:
    """Return a test that can roll back; most of them have a say in passing, too."""
    canary, stable = _events(name, phase)
    test = RolloutTest(
        name=name,
        canary_events=canary,
        stable_events=stable,
        against=_rounded(evidence),
        fails_at=_rounded(fails_at),
    )
    consent = consents.get(_SIDES.get(name, name))
    if consent is None:
        return test
    said = {
        "missing": consent.missing,
        "has_agreed": not consent.missing,
        "words": consent.words,
        "in_favour": _rounded(consent.evidence) if consent.bound else None,
        "passes_at": _rounded(consent.bound) if consent.bound else None,
    }
    return test.model_copy(update=said)


def _whole_way(consent: Consent, phase: Phase, earlier: tuple[Rung, ...]) -> RolloutTest:
    """Return the test of all rungs, which can only keep a version from passing one of them."""
    return RolloutTest(
        name=consent.test,
        canary_events=phase.canary.requests + sum(rung.requests for rung in earlier),
        stable_events=phase.stable.requests + sum(rung.stable_requests for rung in earlier),
        in_favour=_rounded(consent.evidence),
        passes_at=_rounded(consent.bound),
        missing=consent.missing,
        has_agreed=not consent.missing,
        words=consent.words,
    )


def _sample(consent: Consent, phase: Phase, terms: Terms) -> RolloutTest:
    is_compared = terms.is_shadow and terms.disagreement_limit is not None
    counted = phase.canary.compared if is_compared else phase.canary.requests
    return RolloutTest(
        name="sample",
        unit="requests",
        canary_events=counted,
        in_favour=counted,
        passes_at=_least(terms),
        missing=consent.missing,
        has_agreed=not consent.missing,
        words=consent.words,
    )


def _least(terms: Terms) -> int:
    config = terms.config
    if terms.is_shadow and terms.disagreement_limit is None:
        return max(config.min_requests_per_step, config.shadow_requests)
    return config.shadow_requests if terms.is_shadow else config.min_requests_per_step


def _events(name: str, phase: Phase) -> tuple[int, int]:
    """Return how many events of (canary, stable) a test is about."""
    if name in ("p95", "p99"):
        canary, stable = phase.timed()
        return canary.timed, stable.timed
    if name == "disagreement":
        return phase.canary.compared, phase.canary.compared
    return phase.canary.requests, phase.stable.requests


def _arm(version: int, percent: int, counts: Counts, timed: Counts) -> ArmCounts:
    return ArmCounts(
        version=version,
        weight_percent=percent,
        requests=counts.requests,
        errors=counts.errors,
        client_errors=counts.client_errors,
        active=counts.active,
        timed=timed.timed,
        p95_ms=round(timed.latency_ms(0.95), 3),
        compared=counts.compared,
    )


def _seconds_to_end(to_decision: float | None, counted: Phase, moment: Moment) -> float | None:
    """Return the expected time until the last rung has passed; None while that is unknown."""
    both = counted.stable + (counted.canary if moment.percent else Counts())
    traffic = Traffic.of(both, counted.seconds, moment.terms.config.allowed_error_ratio)
    if to_decision is None or not counted.seconds or not traffic.requests_per_second:
        return None
    further = [w for w in moment.weights_percent if w > moment.percent]
    needed = (seconds_on_rung(percent, moment.terms.config, traffic) for percent in further)
    total = to_decision + sum(needed)
    return round(total, 1) if math.isfinite(total) else None


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
