"""How long the way will take at the traffic seen, and on which rung it begins."""

import math
from dataclasses import dataclass

from components.deploy.judging.evidence import Counts
from components.deploy.judging.sequential import Limits, expected_events
from contract.schema.serving import DeployConfig

# Of the time left, what the expected way may take: Wald's sample varies by about its own mean.
_TIME_RATIO = 0.5
# Callers are never moved to a new version in fewer steps than this.
_LEAST_RUNGS = 2


# What Wald's mean leaves out where errors are compared with stable's: what is not known of stable,
# and of the best alternative. By simulation (bench_judge), of the canary's sample and of stable's.
_CANARY_FACTOR, _STABLE_FACTOR = 4.0, 1.2


@dataclass(frozen=True)
class Traffic:
    """What was seen of a pipeline's traffic: requests a second, and stable's ratios."""

    requests_per_second: float
    error_ratio: float = 0.0
    client_error_ratio: float = 0.0

    @classmethod
    def of(cls, stable: Counts, seconds: float) -> "Traffic":
        """Return what some time of stable's counts shows; a time of 0 shows endless traffic."""
        rate = stable.requests / seconds if seconds else math.inf
        return cls(rate, stable.error_ratio, stable.client_error_ratio)


@dataclass(frozen=True)
class Outlook:
    """How many rungs are left out, and what is to be expected, in words."""

    skipped: int
    words: str
    is_possible: bool = True


def outlook(config: DeployConfig, traffic: Traffic, seconds_left: float) -> Outlook:
    """Return on which rung to begin: the lowest from which the way fits into the time.

    Where it fits from none with time to spare, the last two rungs are tried if they may fit at all.
    """
    rungs = config.rungs_percent
    needed = [seconds_on_rung(percent, config, traffic) for percent in rungs]
    last = max(0, len(rungs) - _LEAST_RUNGS) if config.ladder == "auto" else 0
    fits = [n for n in range(last + 1) if sum(needed[n:]) <= _TIME_RATIO * seconds_left]
    shortest = sum(needed[last:])
    skipped = fits[0] if fits else last if shortest <= seconds_left else 0
    words = (
        f"at {traffic.requests_per_second:.3g} requests a second the way from {rungs[skipped]} % "
        f"on needs about {sum(needed[skipped:]):,.0f} of {seconds_left:,.0f} s"
    )
    if skipped:
        words += "; lower rungs would take too long"
    if not fits:
        asked = "more traffic" if math.isinf(shortest) else f"{shortest / _TIME_RATIO:,.0f} s"
        words += f", so expect 'inconclusive': deploy.timeout_seconds needs {asked}"
    return Outlook(skipped, words, bool(fits))


def seconds_on_rung(percent: int, config: DeployConfig, traffic: Traffic) -> float:
    """Return the expected time on a rung: the canary's sample, stable's, and the least time."""
    if traffic.requests_per_second <= 0:
        return math.inf
    canary, stable = expected_samples(config, traffic)
    warm = config.warm_up_requests + config.min_requests_per_step
    to_canary = traffic.requests_per_second * percent / 100
    to_stable = traffic.requests_per_second * (100 - percent) / 100
    return max(config.min_seconds_per_step, max(canary, warm) / to_canary, stable / to_stable)


def expected_samples(config: DeployConfig, traffic: Traffic) -> tuple[float, float]:
    """Return how many requests of the canary and of stable one rung needs, if both are alike."""
    allowed, least = config.allowed_error_ratio, config.min_requests_per_step
    gaps = (config.refused_error_ratio - allowed, config.client_error_margin_ratio)
    ratios = (traffic.error_ratio, traffic.client_error_ratio)
    found = [_samples(*pair, config) for pair in zip(ratios, gaps, strict=True)]
    return (
        max(least, *(canary for canary, _ in found)),
        max(least, *(stable for _, stable in found)),
    )


def _samples(ratio: float, gap: float, config: DeployConfig) -> tuple[float, float]:
    allowed = config.allowed_error_ratio
    ratio = min(max(ratio, allowed), 1 - gap)
    by_limits = expected_events(ratio, Limits(allowed, min(allowed + gap, 1.0)), config.beta)
    by_stable = expected_events(ratio, Limits(ratio, min(ratio + gap, 1.0)), config.beta)
    if by_limits <= _CANARY_FACTOR * by_stable:
        return by_limits, 0.0
    return _CANARY_FACTOR * by_stable, _STABLE_FACTOR * by_stable
