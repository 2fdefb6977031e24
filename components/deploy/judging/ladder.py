"""How long the way will take at the traffic seen, and on which rung it begins."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from components.deploy.judging.accounts import bet_seconds
from components.deploy.judging.evidence import Counts
from components.deploy.judging.sequential import Limits, expected_events
from components.deploy.judging.whole_way import TIMES, bad_ratio
from contract.schema.serving import DeployConfig

# Of the time left, what the expected way may take: Wald's sample varies by about its own mean.
_TIME_RATIO = 0.5
# Callers are never moved to a new version in fewer steps than this.
_LEAST_RUNGS = 2
# Where stable's sample on the last rung takes too long, stable keeps more: the first that fits.
_HOLD_BACK_PERCENT = (20, 30)


_EXPECTED_REQUESTS = 100
# What Wald's mean leaves out where errors are compared with stable's: what is not known of stable,
# and of the best alternative. By simulation (bench_judge), of the canary's sample and of stable's.
_CANARY_FACTOR, _STABLE_FACTOR = 4.0, 1.2
# What the bets on both ratios must gain: the log of their bound and of dividing them over stakes,
# half as much again for stakes that are not the best. By simulation, too.
_EVIDENCE_OF_BETS = 1.5 * (math.log(1000) + 1.0)


@dataclass(frozen=True)
class Traffic:
    """What was seen of a pipeline's traffic: requests a second, and stable's ratios."""

    requests_per_second: float
    error_ratio: float = 0.0
    client_error_ratio: float = 0.0

    @classmethod
    def of(cls, stable: Counts, seconds: float, allowed_error_ratio: float) -> "Traffic":
        """Return what some time of stable's counts shows; a time of 0 shows endless traffic.

        One error in forty requests is no reason to expect 2.5 %: some requests more are taken to
        have shown what is allowed.
        """
        rate = stable.requests / seconds if seconds else math.inf
        expected, total = _EXPECTED_REQUESTS * allowed_error_ratio, _EXPECTED_REQUESTS
        errors, client_errors = stable.errors + expected, stable.client_errors + expected
        total += stable.requests
        return cls(rate, errors / total, client_errors / total)


@dataclass(frozen=True)
class Outlook:
    """Which rungs are left out, and what is to be expected, in words.

    `last_percent` is the canary's share on the last rung: less than configured if stable must keep
    more to be compared with in time. `shortest_seconds` is what the fewest rungs take.
    """

    skipped: int
    words: str
    is_possible: bool = True
    last_percent: int = 0
    shortest_seconds: float = math.inf


def outlook(config: DeployConfig, traffic: Traffic, seconds_left: float) -> Outlook:
    """Return on which rung to begin: the lowest from which the way fits into the time.

    Where it fits from none with time to spare, stable keeps more on the last rung; where that does
    not help either, the last two rungs are tried if they may fit at all, by the shortest way.
    """
    possible = (config.rungs_percent, *_with_more_for_stable(config))
    ways = [_way(rungs, config, traffic, seconds_left) for rungs in possible]
    fitting = (way for way in ways if way.is_possible)
    return next(fitting, min(ways, key=lambda way: way.shortest_seconds))


def _with_more_for_stable(config: DeployConfig) -> list[tuple[int, ...]]:
    """Return the rungs with less and less for the canary on the last one, still the highest."""
    *lower, last = config.rungs_percent
    shares = [100 - percent for percent in _HOLD_BACK_PERCENT]
    least = lower[-1] if lower else 0
    is_fixed = config.ladder == "all"
    return [] if is_fixed else [(*lower, share) for share in shares if least < share < last]


def _way(
    rungs: tuple[int, ...], config: DeployConfig, traffic: Traffic, seconds_left: float
) -> Outlook:
    needed = [seconds_on_rung(percent, config, traffic) for percent in rungs]
    ways = [_whole(rungs[n:], needed[n:], config, traffic) for n in range(len(rungs))]
    last = max(0, len(rungs) - _LEAST_RUNGS) if config.ladder == "auto" else 0
    fits = [n for n in range(last + 1) if ways[n] <= _TIME_RATIO * seconds_left]
    shortest = ways[last]
    skipped = fits[0] if fits else last if shortest <= seconds_left else 0
    words = (
        f"at {traffic.requests_per_second:.3g} requests a second the way from {rungs[skipped]} % "
        f"on needs about {ways[skipped]:,.0f} of {seconds_left:,.0f} s"
    )
    if skipped:
        words += "; lower rungs would take too long"
    words += _few_users(rungs[skipped], config)
    if rungs[-1] < config.rungs_percent[-1]:
        words += f"; on the last rung stable keeps {100 - rungs[-1]} %, to be compared with"
    if not fits:
        asked = "more traffic" if math.isinf(shortest) else f"{shortest / _TIME_RATIO:,.0f} s"
        words += f", so expect 'inconclusive': deploy.timeout_seconds needs {asked}"
    return Outlook(skipped, words, bool(fits), rungs[-1], shortest)


def _few_users(percent: int, config: DeployConfig) -> str:
    """Return what to expect of so few users that one who always fails is more than the margin."""
    users = config.sticky_users * percent / 100
    if not users or users * (config.refused_error_ratio - config.allowed_error_ratio) >= 1:
        return ""
    return (
        f"; {percent} % of {config.sticky_users:,} users are {users:.3g}: if one of them fails "
        "because of what they send, no number of requests lets a good version pass there"
    )


def _whole(
    rungs: Sequence[int], needed: Sequence[float], config: DeployConfig, traffic: Traffic
) -> float:
    """Return the time of some rungs, the last one long enough for the test over all of them."""
    per_second = [traffic.requests_per_second * percent / 100 for percent in rungs]
    if not all(per_second):
        return math.inf
    bad = bad_ratio(traffic.error_ratio)
    limits = Limits(min(traffic.error_ratio, bad / TIMES), bad)
    wanted = expected_events(limits.allowed, limits, config.beta)
    seen = sum(rate * seconds for rate, seconds in zip(per_second, needed, strict=True))
    return sum(needed) + max(0.0, wanted - seen) / per_second[-1]


def seconds_on_rung(percent: int, config: DeployConfig, traffic: Traffic) -> float:
    """Return the expected time on a rung, if both versions are alike: at least its least time.

    Of the ways to pass a test that the judge has, the quickest counts.
    """
    if traffic.requests_per_second <= 0:
        return math.inf
    share, least = percent / 100, config.min_requests_per_step
    rates = (traffic.requests_per_second * share, traffic.requests_per_second * (1 - share))
    ratios = (traffic.error_ratio, traffic.client_error_ratio)
    gaps = (
        config.refused_error_ratio - config.allowed_error_ratio,
        config.client_error_margin_ratio,
    )
    tests = (_seconds(*pair, rates, config) for pair in zip(ratios, gaps, strict=True))
    warm = (config.warm_up_requests + least) / rates[0]
    return max(config.min_seconds_per_step, warm, least / rates[1], *tests)


def _seconds(ratio: float, gap: float, rates: tuple[float, float], config: DeployConfig) -> float:
    """Return how long a test of so many bad events takes at the rates of (canary, stable)."""
    allowed = config.allowed_error_ratio
    ratio = min(max(ratio, allowed), 1 - gap)
    by_limits = expected_events(ratio, Limits(allowed, min(allowed + gap, 1.0)), config.beta)
    by_stable = expected_events(ratio, Limits(ratio, min(ratio + gap, 1.0)), config.beta)
    canary, stable = _CANARY_FACTOR * by_stable / rates[0], _STABLE_FACTOR * by_stable / rates[1]
    variance = ratio * (1 - ratio) * (1 / rates[0] + 1 / rates[1])
    by_bets = _EVIDENCE_OF_BETS * max(2 * variance / gap**2, bet_seconds(rates[0]) / gap)
    return min(by_limits / rates[0], max(canary, stable), by_bets)
