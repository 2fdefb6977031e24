"""Sequential tests of a ratio: one may look at any time, and their error rates hold all the same.

Two kinds. A *bet* gathers evidence against a version, one figure a second, and holds even if what
happens within a second belongs together (a burst). *Likelihood ratios* of one binomial gather
evidence for it, from counts.

Sources: Ville (1939): a non-negative martingale that starts at 1 reaches 1/alpha with a chance of
at most alpha. Wald (1945), Annals of Mathematical Statistics 16(2), 117-186: the probability ratio
test. Robbins (1970), Annals of Mathematical Statistics 41(5): mixtures that are valid at any time.
Lindon & Malek (2022), arXiv 2011.03567: the arm that an event falls on, given the arms' shares.
Waudby-Smith & Ramdas (2024), Journal of the Royal Statistical Society B 86(1): tests by betting of
the mean of a bounded variable.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

# How many times the odds of a bad event may be those of a good version.
BETS = (2.0, 5.0, 25.0)
EVENLY = (1 / 3, 1 / 3, 1 / 3)
# What the default limits on errors call bad is five times what they allow.
MOSTLY_FIVEFOLD = (0.1, 0.8, 0.1)
# What the bets on a difference of ratios risk of their capital. More is best where a bet holds many
# answers; then other tests are quicker.
CONFIDENCE = (0.25, 0.5, 1.0)
_MOST_CAPITAL = 1e12  # beyond any bound; keeps a product finite
# Wald's ratio needs hypotheses strictly inside (0, 1). "No error is allowed" becomes one in a
# million, at which a single error against a refused ratio of 5 % weighs 10.8: it decides alone.
_NEAREST_TO_CERTAIN = 1e-6
_BISECTIONS = 16  # of what was counted: to 2e-5 of it

Capital = tuple[float, ...]  # one amount for each of BETS, or of CONFIDENCE


def paid_in(capital: Capital, amount: float, parts: Sequence[float] = EVENLY) -> Capital:
    """Return the capital with a fresh amount, divided over BETS in these parts, which sum to 1."""
    before = capital or (0.0,) * len(BETS)
    return tuple(old + amount * part for old, part in zip(before, parts, strict=True))


def after_bet(capital: Capital, found: float, expected: float, events: float) -> Capital:
    """Return the capital after one bet that a bounded figure is above its expectation.

    Whatever the figure's distribution, if its mean given the past is at most `expected`, the
    capital's mean does not grow. The stake is so chosen that a figure of 0 costs what `events`
    independent good events would cost in Wald's ratio; where they are independent, the bet is
    nearly as sharp as that ratio.

    Args:
        capital: What each of BETS has.
        found: The figure, in 0..1, such as the share of a second's errors that are the canary's.
        expected: The most that its mean may be, in 0..1, such as the canary's share of answers.
        events: Of how many events the figure is the mean; with none there is no bet.

    Source:
        1 + stake (x / expected - 1), as Waudby-Smith & Ramdas (2024), section 4; the stake is ours.
    """
    if events <= 0 or not 0.0 < expected < 1.0:
        return capital
    gain = found / expected - 1.0
    return tuple(
        [
            min(
                old * (1.0 + (1.0 - (1.0 + expected * (ratio - 1.0)) ** -events) * gain),
                _MOST_CAPITAL,
            )
            for old, ratio in zip(capital, BETS, strict=True)
        ]
    )


def after_arms(capital: Capital, bad: Sequence[float], answered: Sequence[int]) -> Capital:
    """Return the capital after a bet that the canary has more than its share of a second's events.

    Of two versions that are equally good, a bad event falls on one with its share of the answers,
    however many there are, whatever both suffer together, and whether or not the events bring
    requests of their own, as retries do: those raise the share of the arm they fall on.

    Args:
        capital: What each of BETS has.
        bad: Bad events of (canary, stable) in the second.
        answered: Requests answered by (canary, stable) in the second; there is no bet unless both
            answered.

    Source:
        Lindon & Malek (2022), with one figure for all events of a second instead of one for each.
    """
    total = sum(bad)
    if not total or not all(answered):
        return capital
    return after_bet(capital, bad[0] / total, answered[0] / sum(answered), total)


def after_excess(
    capital: Capital, bad: Sequence[float], answered: Sequence[int], margin: float
) -> Capital:
    """Return the capital after a bet that the canary's ratio is above stable's by a margin.

    Where the canary has 95 % of the answers, its share of the bad events can hardly be more than
    that, so `after_arms` gains at most a twentieth a second there; the ratios of a canary that
    fails altogether are far apart. Without a margin the bet would be wrong where events bring their
    own requests: the mean of `bad / answered` is less than the ratio then, on the arm with fewer
    requests the most, so that arm looks better. A ratio of a good canary can look larger than
    stable's by no more than itself. So a canary whose ratio is at most `margin` does not gain in
    the mean, however its events come, nor does one whose ratio is at most `margin` above stable's
    where events bring no requests.

    Args:
        capital: What each of CONFIDENCE has.
        bad: Bad events of (canary, stable) in the second.
        answered: Requests answered by (canary, stable) in it; there is no bet unless both answered.
        margin: In 0..1.

    Source:
        1 + stake (x - margin), as Waudby-Smith & Ramdas (2024), section 4; Cochran (1977), Sampling
        Techniques, section 6.8, for the bias of a mean of ratios.
    """
    if not all(answered):
        return capital
    gain = (excess(bad, answered) - margin) / (1.0 + margin)
    return tuple(
        min(old * (1.0 + stake * gain), _MOST_CAPITAL)
        for old, stake in zip(capital, CONFIDENCE, strict=False)
    )


def excess(bad: Sequence[float], answered: Sequence[int]) -> float:
    """Return how much larger the ratio of bad events is on the canary than on stable, -1..1."""
    ratio, of_stable = (min(one / of, 1.0) for one, of in zip(bad, answered, strict=True))
    return ratio - of_stable


def after_margin(
    capital: Capital, bad: Sequence[float], answered: Sequence[int], margin: float
) -> Capital:
    """Return the capital after a bet that the canary's ratio of bad events is near stable's.

    If in the mean the canary's ratio is at least a margin above stable's, the capital's mean does
    not grow, whatever both suffer together.

    Args:
        capital: What each of CONFIDENCE has.
        bad: Bad events of (canary, stable) in the time of the bet.
        answered: Requests answered by (canary, stable) in it; there is no bet unless both answered.
        margin: In 0..1.

    Source:
        1 + stake (margin - x), as Waudby-Smith & Ramdas (2024), section 4.
    """
    if not all(answered):
        return capital
    gain = margin - bad[0] / answered[0] + bad[1] / answered[1]
    return tuple(
        min(old * (1.0 + stake * gain), _MOST_CAPITAL)
        for old, stake in zip(capital, CONFIDENCE, strict=True)
    )


@dataclass(frozen=True)
class Limits:
    """The two hypotheses about a ratio of bad events, each in 0..1, `allowed` < `refused`."""

    allowed: float
    refused: float


def log_likelihood_ratio(bad: float, total: float, limits: Limits) -> float:
    """Return log P(bad | refused) - log P(bad | allowed); 0 without events, higher is worse.

    If the true ratio is at least `refused`, it falls to log(beta) with a chance of at most beta.

    Source:
        Wald (1945), section 3; without his (1 - alpha), which makes the bound exact.
    """
    allowed, refused = _inside(limits.allowed), _inside(limits.refused)
    good = total - bad
    return (
        bad * math.log(refused / allowed)
        + good * math.log1p(-refused)
        - good * math.log1p(-allowed)
    )


def _inside(ratio: float) -> float:
    return min(max(ratio, _NEAREST_TO_CERTAIN), 1 - _NEAREST_TO_CERTAIN)


def expected_events(ratio: float, limits: Limits, beta: float) -> float:
    """Return how many events the acceptance of a true ratio takes in the mean; inf if it may not.

    Source:
        Wald (1945), section 4, without the excess over the bound.
    """
    gained = ratio * log_likelihood_ratio(1, 1, limits)
    gained += (1 - ratio) * log_likelihood_ratio(0, 1, limits)
    return math.log(beta) / gained if gained < 0 else math.inf


def log_evidence_above(bad: float, total: float, limit: float) -> float:
    """Return the log of the evidence that the true ratio is above `limit`; 0 without events.

    The likelihood under a uniform mixture of all ratios above the limit over that at the limit.
    If the true ratio is at most `limit`, the chance that this ever reaches log(1/alpha), however
    often one looks, is at most alpha.

    Source:
        Robbins (1970): the mixture; Ville (1939): the bound.
    """
    if total == 0 or limit >= 1.0:
        return 0.0
    if limit <= 0.0:
        return math.inf if bad else 0.0
    tail = float(special.betaincc(bad + 1, total - bad + 1, limit))
    return _log_mixture(bad, total, limit, tail) - math.log1p(-limit)


def log_evidence_below(bad: float, total: float, limit: float) -> float:
    """Return the log of the evidence that the true ratio is below `limit`; 0 without events.

    As `log_evidence_above`, with a uniform mixture of all ratios below the limit.
    """
    if total == 0 or limit <= 0.0:
        return 0.0
    if limit >= 1.0:
        return math.inf if bad < total else 0.0
    tail = float(special.betainc(bad + 1, total - bad + 1, limit))
    return _log_mixture(bad, total, limit, tail) - math.log(limit)


def _log_mixture(bad: float, total: float, limit: float, tail: float) -> float:
    if tail <= 0.0:
        return -math.inf
    good = total - bad
    mixture = float(special.betaln(bad + 1, good + 1)) + math.log(tail)
    return mixture - bad * math.log(limit) - good * math.log1p(-limit)


def surely_above(bad: float, total: float, error: float) -> float:
    """Return the largest ratio that the true one is above; wrong at any time with chance `error`.

    0 where nothing is sure. A one-sided confidence sequence: the limits of which the evidence that
    the true ratio is above them is less than 1/error.

    Source:
        Robbins (1970); Howard et al. (2021), Annals of Statistics 49(2), for the name.
    """
    low, high = 0.0, bad / total if total else 0.0
    if not high:
        return 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        is_sure = log_evidence_above(bad, total, middle) >= -math.log(error)
        low, high = (middle, high) if is_sure else (low, middle)
    return low
