"""The judge of a canary: counts in, a decision and its reason out. It reads nothing and waits not.

Three questions, each a sequential test with the config's `alpha` and `beta`:

* errors: Wald's test of `allowed_error_ratio` against `refused_error_ratio`. A canary is not to
  blame for what stable suffers too, so the allowed ratio is raised to stable's own in the same
  phase (shrunk towards the allowed one as if `min_requests_per_step` requests had shown it: a
  handful of stable requests proves little), and the refused one by as much. Where it was raised,
  stable's figure being itself uncertain, the canary must also have more than its share of all
  errors before it is rolled back.
* latency: a request is slow above `max_latency_ratio` times stable's p95, and never within
  `min_latency_difference_ms` of it. By the meaning of p95, 5 % of a canary's requests may be slow;
  the same test is made of 5 % against 20 %. Without enough stable requests there is no comparison.
* disagreement, in the shadow phase beside errors, where answers name classes: the evidence that
  the true ratio is above `max_disagreement_ratio`, valid at any time.

Every rung counts anew, but one that follows a passed rung starts with that rung's credit: the
evidence that was just enough to pass, and no more. So a good canary climbs faster, and a long clean
record at 1 % cannot hide a version that fails under half of the load.

Whatever refutes the canary ends it at once. To pass, a phase needs its minimum sample and every
test's consent; no traffic is neither, and waits.
"""

import math
from dataclasses import dataclass

from components.deploy.evidence import Counts
from components.deploy.sequential import (
    Errors,
    Limits,
    log_evidence_above,
    log_likelihood_ratio,
    log_share_ratio,
)
from contract.records.traffic import Decision
from contract.schema.serving import DeployConfig

_QUANTILE = 0.95
_SLOW = Limits(allowed=1 - _QUANTILE, refused=4 * (1 - _QUANTILE))


@dataclass(frozen=True)
class Judgement:
    """A decision in words; `missing` is how many more clean events would let it pass."""

    decision: Decision
    reason: str
    missing: int = 0


@dataclass(frozen=True)
class Rung:
    """What was counted on one rung, or of a shadow; `has_credit` where an earlier rung was passed.

    On a rung that leaves stable without traffic, `stable` is what it showed on the rungs before.
    """

    canary: Counts
    stable: Counts
    has_credit: bool = False


def judge_unpaired_shadow(rung: Rung, config: DeployConfig) -> Judgement:
    """Judge a shadow whose answers cannot be compared (numbers, or none logged) by its errors."""
    errors = _judge_errors(rung, config)
    missing = max(0, config.shadow_requests - rung.canary.requests)
    if errors.decision == "fail" or not missing:
        decision: Decision = "fail" if errors.decision == "fail" else "pass"
        return Judgement(decision, f"{errors.reason}; answers not compared")
    return Judgement("continue", errors.reason, missing)


def judge_shadow(rung: Rung, config: DeployConfig) -> Judgement:
    """Judge a shadow by how often it fails, or predicts something else than stable."""
    errors = _judge_errors(rung, config)
    if errors.decision == "fail":
        return errors
    canary, limit = rung.canary, config.max_disagreement_ratio
    ratio = canary.disagreements / canary.compared if canary.compared else 0.0
    reason = (
        f"{_counted(canary.disagreements, 'disagreement')} in {canary.compared:,} compared "
        f"answers ({ratio:.1%}), at most {limit:.1%} may differ"
    )
    evidence = log_evidence_above(canary.disagreements, canary.compared, limit)
    if evidence >= -math.log(config.alpha):
        return Judgement("fail", reason)
    missing = max(0, config.shadow_requests - canary.compared)
    if missing or ratio > limit:
        return Judgement("continue", reason, max(1, missing))
    return Judgement("pass", reason)


def judge_rung(rung: Rung, config: DeployConfig) -> Judgement:
    """Judge a canary by its errors and its latency on one rung of the ladder."""
    judgements = [_judge_errors(rung, config), _judge_latency(rung, config)]
    for judgement in judgements:
        if judgement.decision == "fail":
            return judgement
    reason = "; ".join(judgement.reason for judgement in judgements)
    missing = max(
        config.min_requests_per_step - rung.canary.requests, *(j.missing for j in judgements)
    )
    if missing > 0 or any(j.decision == "continue" for j in judgements):
        return Judgement("continue", reason, max(1, missing))
    return Judgement("pass", reason)


def _judge_errors(rung: Rung, config: DeployConfig) -> Judgement:
    canary, stable = rung.canary, rung.stable
    limits = error_limits(stable, config)
    reason = (
        f"{_counted(canary.errors, 'error')} in {canary.requests:,} requests "
        f"({canary.error_ratio:.1%}; {limits.allowed:.1%} allowed, {_in_words(stable)})"
    )
    against = log_likelihood_ratio(canary.errors, canary.requests, limits)
    judgement = _decide(against, limits, reason, rung, config)
    if judgement.decision != "fail" or limits.allowed <= config.allowed_error_ratio:
        return judgement
    excess = limits.refused / limits.allowed
    by_share = log_share_ratio(
        canary.errors, canary.requests, stable.errors, stable.requests, excess
    )
    is_worse = _decide(by_share, limits, reason, rung, config).decision == "fail"
    return judgement if is_worse else Judgement("continue", reason, 1)


def error_limits(stable: Counts, config: DeployConfig) -> Limits:
    """Return the limits on the canary's errors, raised to what stable suffers at the same time."""
    limits = Limits(config.allowed_error_ratio, config.refused_error_ratio)
    prior = config.min_requests_per_step
    suffered = (stable.errors + prior * limits.allowed) / (stable.requests + prior)
    return limits.raised_to(suffered)


def _judge_latency(rung: Rung, config: DeployConfig) -> Judgement:
    if min(rung.stable.requests, rung.stable.timed) < config.min_requests_per_step:
        return Judgement("pass", "latency not compared: too few stable requests")
    stable_ms = rung.stable.latency_ms(_QUANTILE)
    limit_ms = max(
        stable_ms * config.max_latency_ratio, stable_ms + config.min_latency_difference_ms
    )
    slow = rung.canary.slower_than(limit_ms)
    reason = (
        f"p95 {rung.canary.latency_ms(_QUANTILE):.1f} ms (stable {stable_ms:.1f} ms), "
        f"{slow:,} of {rung.canary.timed:,} above {limit_ms:.1f} ms"
    )
    against = log_likelihood_ratio(slow, rung.canary.timed, _SLOW)
    return _decide(against, _SLOW, reason, rung, config)


def _decide(
    against: float, limits: Limits, reason: str, rung: Rung, config: DeployConfig
) -> Judgement:
    """Hold the evidence against a canary, with its credit, to the bounds of the test."""
    errors = Errors(config.alpha, config.beta)
    against += errors.accept_at if rung.has_credit else 0.0
    if against >= errors.refuse_at:
        return Judgement("fail", reason)
    if against <= errors.accept_at:
        return Judgement("pass", reason)
    per_clean_event = -log_likelihood_ratio(0, 1, limits)
    return Judgement("continue", reason, math.ceil((against - errors.accept_at) / per_clean_event))


def _in_words(stable: Counts) -> str:
    if not stable.requests:
        return "stable had no traffic"
    return f"stable {stable.error_ratio:.1%} of {stable.requests:,}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
