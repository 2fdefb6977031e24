"""How long the way will take at the traffic seen, and on which rung it begins."""

import math
from dataclasses import dataclass

from components.deploy.sequential import Limits, expected_events
from contract.schema.serving import DeployConfig

# Of the time left, what the expected way may take: Wald's sample varies by about its own mean.
_TIME_RATIO = 0.5
# Callers are never moved to a new version in fewer steps than this.
_LEAST_RUNGS = 2


@dataclass(frozen=True)
class Traffic:
    """What was seen of a pipeline's traffic: requests a second, and stable's error ratio."""

    requests_per_second: float
    error_ratio: float = 0.0


@dataclass(frozen=True)
class Outlook:
    """How many rungs are left out, and what is to be expected, in words."""

    skipped: int
    words: str
    is_possible: bool = True


def outlook(config: DeployConfig, traffic: Traffic, seconds_left: float) -> Outlook:
    """Return on which rung to begin: the lowest from which the way fits into the time."""
    rungs = config.rungs_percent
    needed = [seconds_on_rung(percent, config, traffic) for percent in rungs]
    last = max(0, len(rungs) - _LEAST_RUNGS) if config.ladder == "auto" else 0
    fits = [n for n in range(last + 1) if sum(needed[n:]) <= _TIME_RATIO * seconds_left]
    rate = f"{traffic.requests_per_second:.3g} requests a second"
    if fits:
        skipped = fits[0]
        words = f"at {rate} about {sum(needed[skipped:]):,.0f} of {seconds_left:,.0f} s needed"
        if skipped:
            words += f" from {rungs[skipped]} % on; lower rungs would take too long"
        return Outlook(skipped, words)
    shortest = sum(needed[last:])
    asked = "more traffic" if math.isinf(shortest) else f"{shortest / _TIME_RATIO:,.0f} s"
    words = (
        f"at {rate} this cannot be relied on to end within {seconds_left:,.0f} s: expected is "
        f"'inconclusive'; deploy.timeout_seconds needs {asked}"
    )
    return Outlook(0, words, is_possible=False)


def seconds_on_rung(percent: int, config: DeployConfig, traffic: Traffic) -> float:
    """Return the expected time on a rung: the canary's sample, stable's, and the least time."""
    rate = traffic.requests_per_second
    if rate <= 0:
        return math.inf
    events = max(expected_sample(config, traffic), config.min_requests_per_step)
    warm = config.warm_up_requests + config.min_requests_per_step
    seconds = (
        events / (rate * percent / 100),
        warm / (rate * percent / 100),
        config.min_requests_per_step / (rate * (100 - percent) / 100),
    )
    return max(config.min_seconds_per_step, *seconds)


def expected_sample(config: DeployConfig, traffic: Traffic) -> float:
    """Return how many requests a canary as good as stable is expected to need for one rung."""
    gap = config.refused_error_ratio - config.allowed_error_ratio
    ratio = max(config.allowed_error_ratio, traffic.error_ratio)
    absolute = Limits(config.allowed_error_ratio, config.refused_error_ratio)
    beside_stable = Limits(min(ratio, 1 - gap), min(ratio + gap, 1.0))
    # What is not known of stable and of the best alternative doubles the sample; see bench_judge.
    return min(
        expected_events(ratio, absolute, config.beta),
        2 * expected_events(ratio, beside_stable, config.beta),
    )
