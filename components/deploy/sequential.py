"""Sequential tests of a ratio: one may look after every request, and they stop as early as may be.

Sources: Wald (1947), Sequential Analysis, chapters 3, 5 and 6 (the probability ratio test of one
binomial, and of two); Robbins (1970), Annals of Mathematical Statistics 41(5), with Ville's
inequality (1939), for the mixture that is valid at any time.
"""

import math
from dataclasses import dataclass

from scipy import special

# Wald's ratio needs hypotheses strictly inside (0, 1). "No error is allowed" becomes one in a
# million, at which a single error against a refused ratio of 5 % weighs 10.8: it decides alone.
_NEAREST_TO_CERTAIN = 1e-6


@dataclass(frozen=True)
class Limits:
    """The two hypotheses about a ratio of bad events, each in 0..1, `allowed` < `refused`."""

    allowed: float
    refused: float

    def raised_to(self, ratio: float) -> "Limits":
        """Return limits whose allowed ratio is at least `ratio`, with the same gap above it."""
        gap = self.refused - self.allowed
        allowed = min(max(self.allowed, ratio), 1.0 - gap)
        return Limits(allowed, allowed + gap)


@dataclass(frozen=True)
class Errors:
    """How often the test may be wrong: `alpha` refuses a good one, `beta` accepts a bad one."""

    alpha: float
    beta: float

    @property
    def refuse_at(self) -> float:
        """The log-likelihood ratio from which on the ratio is refused (Wald's log A)."""
        return math.log((1 - self.beta) / self.alpha)

    @property
    def accept_at(self) -> float:
        """The log-likelihood ratio down from which the ratio is accepted (Wald's log B)."""
        return math.log(self.beta / (1 - self.alpha))


def log_likelihood_ratio(bad: int, total: int, limits: Limits) -> float:
    """Return log P(bad | refused) - log P(bad | allowed); 0 without events, higher is worse."""
    allowed, refused = (
        min(max(p, _NEAREST_TO_CERTAIN), 1 - _NEAREST_TO_CERTAIN)
        for p in (limits.allowed, limits.refused)
    )
    good = total - bad
    return (
        bad * math.log(refused / allowed)
        + good * math.log1p(-refused)
        - good * math.log1p(-allowed)
    )


def log_share_ratio(bad: int, total: int, other_bad: int, other_total: int, ratio: float) -> float:
    """Return the log evidence that one side's events are `ratio` times as often bad as the other's.

    Under equal ratios a bad event is on the one side with that side's share of all events; the
    test is Wald's, of that share against the one that `ratio` would make of it. 0 without events
    on either side, where there is nothing to compare.

    Source: the conditional test of two rates, made sequential as in Wald's chapter 6 (he pairs the
    events of both sides; here each bad event counts, so that sides may be of unequal size).
    """
    if not total or not other_total:
        return 0.0
    share = total / (total + other_total)
    expected = share * ratio / (share * ratio + 1 - share)
    return bad * math.log(expected / share) + other_bad * math.log((1 - expected) / (1 - share))


def log_evidence_above(bad: int, total: int, limit: float) -> float:
    """Return the log of the evidence that the true ratio is above `limit`; 0 without events.

    The likelihood under a uniform mixture of all ratios above the limit over that at the limit.
    If the true ratio is at most `limit`, the chance that this ever reaches log(1/alpha), however
    often one looks, is at most alpha.
    """
    if total == 0 or limit >= 1.0:
        return 0.0
    if limit <= 0.0:
        return math.inf if bad else 0.0
    good = total - bad
    tail = float(special.betaincc(bad + 1, good + 1, limit))
    if tail == 0.0:
        return -math.inf
    mixture = float(special.betaln(bad + 1, good + 1)) + math.log(tail) - math.log1p(-limit)
    return mixture - bad * math.log(limit) - good * math.log1p(-limit)
