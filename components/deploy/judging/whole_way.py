"""Errors over the whole way: does the canary fail many times as often as stable, even if rarely?

A rung accepts what `allowed_error_ratio` allows, whatever stable has. Beside a stable version that
fails one request in a thousand, one in a hundred is allowed and still ten times as many. No single
rung has the requests to see that, all of them together have: before the last rung is passed, the
counts of all rungs must show that the canary is not *bad*, which is here a ratio of errors of at
least `LEAST_RATIO` and of at least `TIMES` stable's on the same rung.

Users who keep their arm may fail because of what they send, and how many of these an arm has is
chance: of few, one arm may well have three times as many as the other, which is nearer to `TIMES`
than to equal. So where users are counted, only rungs count on which each arm has `LEAST_USERS`, and
the test is asked on the last of these. If a hundredth of the users always fails, that is 40 of two
such arms; one has 2.24 times (the root of `TIMES`) as many as the other with a chance of 0.8 %
(binomial: 28 of 40 or more).

Each rung has its own unknown ratio, so that an incident which both arms suffer on one rung says
nothing against the canary. The evidence is the generalised likelihood ratio of Poisson counts: the
likelihood of equal ratios over that of the likeliest bad pair, multiplied over the rungs.

Source: Lai (1988), Annals of Statistics 16(2), 856-886, for such ratios in sequential tests. Its
rate of errors is approximate; bench_judge measures it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

LEAST_RATIO = 0.01
TIMES = 5.0
LEAST_USERS = 2_000


def can_tell(percent: int, users: int) -> bool:
    """Tell whether a rung shows what is bad, with so many users who keep their arm; 0: no such."""
    return not users or users * min(percent, 100 - percent) / 100 >= LEAST_USERS


class Rung(NamedTuple):
    """Errors and requests of both arms on one rung."""

    errors: int
    requests: int
    stable_errors: int
    stable_requests: int


def log_evidence_near_stable(rungs: Sequence[Rung]) -> float:
    """Return the log of how much likelier equal ratios are than any bad pair; 0 without requests.

    Below 0 the counts themselves are nearer to a bad pair.
    """
    return sum(_log_alike(rung) - _log_bad(rung) for rung in rungs)


def bad_ratio(stable_ratio: float) -> float:
    """Return the ratio of errors from which on a canary is bad, below 1."""
    return min(max(LEAST_RATIO, TIMES * stable_ratio), 0.99)


def _log_alike(rung: Rung) -> float:
    ratio = _ratio(rung.errors + rung.stable_errors, rung.requests + rung.stable_requests)
    return _log_likelihood(rung, ratio, ratio)


def _log_bad(rung: Rung) -> float:
    """Return the largest log likelihood of a bad pair of ratios.

    The likelihood is concave and the bad pairs are convex, so it is that of the ratios counted, if
    they are bad, or lies on one of the two edges.
    """
    errors, requests, stable_errors, stable_requests = rung
    ratio, stable_ratio = _ratio(errors, requests), _ratio(stable_errors, stable_requests)
    if ratio >= max(LEAST_RATIO, TIMES * stable_ratio):
        return _log_likelihood(rung, ratio, stable_ratio)
    corner = LEAST_RATIO / TIMES
    common = _ratio(errors + stable_errors, TIMES * requests + stable_requests)
    of_stable = max(corner, common)
    return max(
        _log_likelihood(rung, LEAST_RATIO, min(corner, stable_ratio)),
        _log_likelihood(rung, TIMES * of_stable, of_stable),
    )


def _log_likelihood(rung: Rung, ratio: float, stable_ratio: float) -> float:
    of_stable = _log_poisson(rung.stable_errors, rung.stable_requests, stable_ratio)
    return _log_poisson(rung.errors, rung.requests, ratio) + of_stable


def _log_poisson(events: int, total: int, ratio: float) -> float:
    return (events * math.log(ratio) if events else 0.0) - total * ratio


def _ratio(events: float, total: float) -> float:
    return events / total if total else 0.0
