"""What each test says to a pass of one phase, from nothing, at `beta`:

* errors (5xx, what callers left before the answer, what the shadow refuses and stable answers, and
  what is still under way or found no host: an event not yet seen is not a success): Wald's test
  accepts the absolute limits; or the ratio is surely less than a margin above stable's, of which
  the lower end of a confidence sequence counts, so that few stable requests excuse little;
* client errors (4xx): the same with `client_error_margin_ratio`;
* latency: at most 5 % of the requests are above `max_latency_ratio` times stable's p95, Wald's test
  against 10 %;
* in the shadow, where answers can be compared, at most the allowed share of rows differs;
* on the last rung, with few users on the last that can tell: the errors of all rungs together are
  not many times stable's (`whole_way`).

None agrees while stable itself is surely above the refused ratio, by its own errors or by requests
that find no host; what impatient callers do is no incident.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from components.deploy.judging.accounts import Phase, too_slow_ms
from components.deploy.judging.evidence import Counts
from components.deploy.judging.sequential import (
    Limits,
    log_evidence_above,
    log_evidence_below,
    log_likelihood_ratio,
    surely_above,
)
from components.deploy.judging.whole_way import LEAST_RATIO, TIMES, Rung, log_evidence_near_stable
from contract.schema.serving import DeployConfig

_SLOW = Limits(allowed=0.05, refused=0.10)
OF_STABLE = 0.1  # of beta or alpha, where a bound on a figure is taken
_MOST_LOG_EVIDENCE = math.log(1e12)  # beyond any bound; what is shown stays readable


@dataclass(frozen=True)
class Consent:
    """What one test says to a pass: `missing` clean requests of the canary, 0 if it agrees.

    `evidence` is how many times likelier what was counted is of a good canary than of a bad one;
    from `bound` on the test agrees. Both are 0 where a test needs no evidence, or has none yet.
    """

    test: str
    words: str
    missing: int = 0
    evidence: float = 0.0
    bound: float = 0.0


class Acceptance(NamedTuple):
    """How far a sample is from being accepted; see Consent."""

    missing: int
    evidence: float
    bound: float


class Sample(NamedTuple):
    """How many of a version's requests were bad."""

    bad: float
    total: int


@dataclass(frozen=True)
class Parts:
    """How `beta` is divided.

    To Wald's test; to stable's confidence sequence and the evidence of a ratio below it; and to the
    bets on both arms' ratios in the same seconds, which need the fewest requests of two small arms.
    """

    by_limits: float
    of_stable: float
    by_margin: float
    by_bets: float


# Errors are rare, mostly; client errors are what callers make of it.
_OF_ERRORS, _OF_CLIENT_ERRORS = Parts(0.8, 0.05, 0.05, 0.1), Parts(0.34, 0.33, 0.33, 0.0)


@dataclass(frozen=True)
class Terms:
    """What a phase asks for: a shadow's answers are compared if there is a `disagreement_limit`.

    `earlier` is what was counted on the rungs before, where the whole way is judged; else None.
    `sticky_percent` is the canary's share of the users, if they keep their arm; else 0.
    """

    config: DeployConfig
    is_shadow: bool = False
    disagreement_limit: float | None = None
    earlier: tuple[Rung, ...] | None = None
    sticky_percent: int = 0


def consents_of(phase: Phase, terms: Terms) -> list[Consent]:
    """Return what each test that a phase asks for says to a pass."""
    consents = [
        errors(phase, terms.config),
        client_errors(phase, terms.config),
        _latency(phase, terms.config),
        _sample(phase, terms),
    ]
    if terms.disagreement_limit is not None:
        consents.append(disagreement(phase.canary, terms.disagreement_limit))
    if terms.earlier is not None:
        consents.append(_whole_way(phase, terms.earlier, terms.config.beta))
    return consents


def errors(phase: Phase, config: DeployConfig) -> Consent:
    """Say whether the errors of this phase let it pass."""
    canary, stable = phase.canary, phase.stable
    words = (
        f"{_counted(canary.errors, 'error')} in {canary.requests:,} requests "
        f"({canary.error_ratio:.1%}; {config.allowed_error_ratio:.1%} allowed, {_beside(stable)})"
    )
    if canary.refused_alone:
        words += f", {canary.refused_alone:,} of them refused what stable answered"
    if canary.abandoned:
        words += f", {canary.abandoned:,} of them abandoned by their callers"
    if canary.active:
        words += f", {canary.active:,} more under way"
    if canary.unreached:
        words += f", {canary.unreached:,} more found no host"
    if incident := _incident(stable, config):
        return Consent("errors", f"{words}, {incident}: nobody passes meanwhile", 1)
    limits = Limits(config.allowed_error_ratio, config.refused_error_ratio)
    # Pairs are counted apart from requests, which are lost when the data plane restarts.
    unanswered = canary.active + canary.unreached
    bad = min(canary.errors, canary.requests) + unanswered
    sample = Sample(bad, canary.requests + unanswered)
    beside = Sample(stable.errors, stable.requests)
    found = _acceptance(sample, beside, limits, _OF_ERRORS, config.beta)
    if found.missing and _is_trusted(phase, sample, beside, limits, config.beta):
        found = Acceptance(0, found.bound, found.bound)
    return Consent("errors", words, *found)


def client_errors(phase: Phase, config: DeployConfig) -> Consent:
    """Say whether the client errors of this phase let it pass."""
    canary, stable = phase.canary, phase.stable
    words = (
        f"{_counted(canary.client_errors, 'client error')} ({canary.client_error_ratio:.1%}, "
        f"stable {stable.client_error_ratio:.1%})"
    )
    most = min(1.0, config.allowed_error_ratio + config.client_error_margin_ratio)
    limits = Limits(config.allowed_error_ratio, most)
    sample = Sample(canary.client_errors, canary.requests)
    beside = Sample(stable.client_errors, stable.requests)
    found = _acceptance(sample, beside, limits, _OF_CLIENT_ERRORS, config.beta)
    return Consent("client errors", words, *found)


def _acceptance(
    sample: Sample, stable: Sample, limits: Limits, parts: Parts, beta: float
) -> Acceptance:
    """Return how many more clean requests are needed, 0 if the sample passes, and why.

    A canary is bad that is above the refused ratio and above stable's plus the gap of the limits;
    to exclude one of both will do.
    """
    margin = limits.refused - limits.allowed
    found = _against_limits(sample, limits, parts.by_limits * beta)
    if found.missing and stable.bad and _is_below_stable(sample, stable, margin, parts, beta):
        return Acceptance(0, found.bound, found.bound)
    return found


def _against_limits(sample: Sample, limits: Limits, error: float) -> Acceptance:
    """Return how far Wald's test is from accepting a sample, wrong with chance `error`."""
    accept_at = math.log(error)
    against = log_likelihood_ratio(*sample, limits)
    lacking = math.ceil((against - accept_at) / -log_likelihood_ratio(0, 1, limits))
    return Acceptance(max(0, lacking), exp(-against), 1.0 / error)


def exp(log: float) -> float:
    """Return evidence of which the logarithm is known, at most what can be read."""
    return math.exp(min(log, _MOST_LOG_EVIDENCE))


def _is_below_stable(
    sample: Sample, stable: Sample, margin: float, parts: Parts, beta: float
) -> bool:
    """Tell whether a canary is surely less than a margin above what stable surely has."""
    enough = -math.log(parts.by_margin * beta)
    if log_evidence_below(*sample, stable.bad / stable.total + margin) < enough:
        return False  # saves the search: stable surely has no more than was counted
    surely = surely_above(*stable, parts.of_stable * beta)
    return log_evidence_below(*sample, surely + margin) >= enough


def _is_trusted(phase: Phase, sample: Sample, stable: Sample, limits: Limits, beta: float) -> bool:
    """Tell whether the bets show a canary less than a margin above stable in the same seconds.

    They know nothing of what is under way, which `sample` counts as bad.
    """
    if not sample.total or not stable.total:
        return False
    most = stable.bad / stable.total + limits.refused - limits.allowed
    is_shown = sum(phase.trust) >= 1.0 / (_OF_ERRORS.by_bets * beta)
    return is_shown and sample.bad / sample.total < most


def _latency(phase: Phase, config: DeployConfig) -> Consent:
    canary, stable = phase.timed()
    least, ratio = config.min_requests_per_step, 0.95
    if short := max(least - canary.timed, least - stable.timed, 0):
        words = (
            f"latency: {canary.timed:,} timed after warm-up, {stable.timed:,} of stable, "
            f"{least:,} of each needed"
        )
        return Consent("latency", words, short)
    surely_ms = stable.latency_ms(_sure_quantile(stable.timed, OF_STABLE * config.beta))
    limit_ms = too_slow_ms(surely_ms, config)
    slow = canary.slower_than(limit_ms)
    words = (
        f"p95 {canary.latency_ms(ratio):.1f} ms (stable {stable.latency_ms(ratio):.1f} ms), "
        f"{slow:,.0f} of {canary.timed:,} above {limit_ms:.1f} ms"
    )
    sample = Sample(slow, canary.timed)
    found = _against_limits(sample, _SLOW, (1 - OF_STABLE) * config.beta)
    return Consent("latency", words, *found)


@lru_cache(maxsize=1 << 14)
def _sure_quantile(timed: int, error: float) -> float:
    """Return the quantile of so many that is surely at most the true p95; 0 if there is none."""
    enough = -math.log(error)
    expected = timed * _SLOW.allowed
    low = int(expected)  # how many of them lie above: not sure, sure
    stride = max(1, int(math.sqrt(2 * enough * expected)))
    high = min(timed, low + stride)
    while high < timed and log_evidence_above(high, timed, _SLOW.allowed) < enough:
        low, high = high, min(timed, high + stride)
    while high - low > 1:
        middle = (low + high) // 2
        is_sure = log_evidence_above(middle, timed, _SLOW.allowed) >= enough
        low, high = (low, middle) if is_sure else (middle, high)
    return 1.0 - high / timed


def _sample(phase: Phase, terms: Terms) -> Consent:
    config, requests = terms.config, phase.canary.requests
    least = config.min_requests_per_step
    if terms.is_shadow and terms.disagreement_limit is None:
        least = max(least, config.shadow_requests)
        words = f"{requests:,} of at least {least:,} requests, answers not compared"
        return Consent("sample", words, max(0, least - requests))
    if terms.is_shadow:
        least, requests = config.shadow_requests, phase.canary.compared
    kind = "compared requests" if terms.is_shadow else "requests"
    return Consent("sample", f"{requests:,} of at least {least:,} {kind}", max(0, least - requests))


def _whole_way(phase: Phase, earlier: tuple[Rung, ...], beta: float) -> Consent:
    rungs = (*earlier, rung_of(phase.canary, phase.stable))
    errors, requests, stable_errors, stable_requests = map(sum, zip(*rungs, strict=True))
    words = (
        f"over all rungs {_counted(errors, 'error')} in {requests:,} requests, stable "
        f"{stable_errors:,} in {stable_requests:,}"
    )
    found, enough = log_evidence_near_stable(rungs), -math.log(beta)
    if found < enough:
        words += f": not shown to be below {TIMES:g} times stable's, or {LEAST_RATIO:.0%}"
    missing = max(0, math.ceil((enough - found) / LEAST_RATIO))
    return Consent("whole way", words, missing, exp(found), 1.0 / beta)


def rung_of(canary: Counts, stable: Counts) -> Rung:
    """Return a rung's errors and requests."""
    return Rung(canary.errors, canary.requests, stable.errors, stable.requests)


def disagreement(canary: Counts, limit: float) -> Consent:
    """Say whether a shadow's answers let it pass; at most a share `limit` of rows may differ."""
    ratio = canary.disagreements / canary.compared if canary.compared else 0.0
    words = (
        f"{ratio:.1%} of the rows of {canary.compared:,} compared requests answered otherwise, at "
        f"most {limit:.1%} may be"
    )
    over = canary.disagreements - limit * canary.compared
    return Consent("disagreement", words, max(0, math.ceil(over / max(limit, 1e-3))))


def _incident(stable: Counts, config: DeployConfig) -> str:
    """Say why stable's own callers get no answers, if so; they are not those that left."""
    failed = Sample(stable.errors - stable.abandoned, stable.requests)
    if _is_surely_above(failed, config):
        return "stable itself fails"
    unreached = Sample(stable.unreached, stable.requests + stable.unreached)
    if _is_surely_above(unreached, config):
        return "requests to stable find no host"
    return ""


def _is_surely_above(sample: Sample, config: DeployConfig) -> bool:
    ratio = config.refused_error_ratio
    if sample.bad <= ratio * sample.total:
        return False
    return surely_above(*sample, OF_STABLE * config.beta) > ratio


def _beside(stable: Counts) -> str:
    if not stable.requests:
        return "stable had no traffic"
    return f"stable {stable.error_ratio:.1%} of {stable.requests:,}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
