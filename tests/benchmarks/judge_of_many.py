"""The judge's arithmetic for thousands of rollouts side by side, as numpy arrays.

The same steps as in `components.deploy.judging`, with its constants. `bench_judge_many.py` follows
some rollouts with the judge itself, and ends where one of the two decides otherwise.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special
from simulated_agent import BOUNDS_MS

from components.deploy.judging import accounts as bets
from components.deploy.judging import consents as tests
from components.deploy.judging.sequential import (
    BETS,
    CONFIDENCE,
    EVENLY,
    MOSTLY_FIVEFOLD,
    Limits,
    log_likelihood_ratio,
)
from components.deploy.judging.whole_way import LEAST_RATIO, TIMES
from contract.schema.serving import DeployConfig

Array = np.ndarray

# Columns of what is counted; the histogram is cumulative, its last column is all that was timed.
REQUESTS, ERRORS, CLIENT_ERRORS, COMPARED, DISAGREEMENTS, HISTOGRAM = range(6)
COLUMNS = HISTOGRAM + len(BOUNDS_MS) + 1
_SLOWER = {"p95": "p95 against stable", "p99": "p99 against stable"}
_EXCESS = {n: f"{n} in excess" for n in ("errors", "client errors", *_SLOWER.values())}
_NAMES = (*bets.ALPHA_SHARES, *_SLOWER.values(), *_EXCESS.values())
_EXCESS_PART = 0.04
_MOST_CAPITAL = 1e12
_BETS, _CONFIDENCE = np.array(BETS), np.array(CONFIDENCE)


@dataclass
class Phases:
    """What was counted in the present phase of each rollout; see `accounts.Phase`."""

    seconds: Array
    canary: Array  # [rollouts, COLUMNS], and so on
    stable: Array
    active: Array  # of the canary, under way now
    settled_seconds: Array
    settled_canary: Array
    settled_stable: Array
    is_warm: Array
    warm_canary: Array
    warm_stable: Array
    trust: Array  # [rollouts, 3]

    @classmethod
    def begun(cls, size: int) -> "Phases":
        def counts() -> Array:
            return np.zeros((size, COLUMNS))

        return cls(
            seconds=np.zeros(size),
            canary=counts(),
            stable=counts(),
            active=np.zeros(size),
            settled_seconds=np.zeros(size),
            settled_canary=counts(),
            settled_stable=counts(),
            is_warm=np.zeros(size, bool),
            warm_canary=counts(),
            warm_stable=counts(),
            trust=np.tile(EVENLY, (size, 1)),
        )

    def begin(self, where: Array) -> None:
        """Let another phase begin in some rollouts."""
        for name, value in vars(self).items():
            value[where] = EVENLY if name == "trust" else 0

    def grow(self, canary: Array, stable: Array, warm_up_requests: int) -> None:
        self.canary += canary
        self.stable += stable
        warms = ~self.is_warm & (self.canary[:, -1] >= warm_up_requests)
        self.warm_canary[warms], self.warm_stable[warms] = self.canary[warms], self.stable[warms]
        self.is_warm |= warms

    def bet_seconds(self) -> Array:
        rate = (self.settled_canary[:, REQUESTS] + 1) / np.maximum(self.settled_seconds, 1e-9)
        return np.where(self.settled_seconds == 0, 1.0, np.clip(3.0 / rate, 1.0, 60.0))


class ManyAccounts:
    """The capital of every bet of each rollout; see `accounts.Accounts`."""

    def __init__(self, size: int) -> None:
        self.capital = {name: np.zeros((size, len(BETS))) for name in _NAMES}
        self.exceeded = {name: np.zeros(size, bool) for name in _EXCESS}
        self.bad = {name: np.zeros(size) for name in bets.ALPHA_SHARES}
        self.bad_seconds = {name: np.zeros(size) for name in bets.ALPHA_SHARES}

    def pay(self, where: Array, amounts: Array) -> None:
        for name, capital in self.capital.items():
            parts = np.array(MOSTLY_FIVEFOLD if name == "errors" else EVENLY)
            if name in _EXCESS:
                parts = parts * (1 - _EXCESS_PART)
            elif name in _EXCESS.values():
                parts = parts * _EXCESS_PART
            capital[where] += amounts[:, None] * parts

    def evidence(self, name: str) -> Array:
        gained = self._gained(name)
        return np.minimum(gained, self._gained(_SLOWER[name])) if name in _SLOWER else gained

    def _gained(self, name: str) -> Array:
        gained: Array = self.capital[name].sum(axis=1)
        return gained + self.capital[_EXCESS[name]].sum(axis=1) if name in _EXCESS else gained

    def proven(self, alpha: float) -> Array:
        found = np.zeros(len(self.bad["errors"]), bool)
        for name in bets.ALPHA_SHARES:
            enough = self.evidence(name) >= bets.bound(name, alpha)
            found |= enough & (self.bad[name] >= 6) & (self.bad_seconds[name] >= 3)
        return found


def settle(
    phases: Phases, accounts: ManyAccounts, config: DeployConfig, limit: Array, where: Array
) -> None:
    """Settle the bets of some rollouts; `limit` of disagreement is NaN where none are compared."""
    rows = np.flatnonzero(where)
    canary = phases.canary[rows] - phases.settled_canary[rows]
    stable = phases.stable[rows] - phases.settled_stable[rows]
    answered = canary[:, REQUESTS], stable[:, REQUESTS]
    for name, column in (("errors", ERRORS), ("client errors", CLIENT_ERRORS)):
        bad = canary[:, column], stable[:, column]
        margins = config.refused_error_ratio, config.client_error_margin_ratio
        _bet_on_arms(accounts, name, rows, bad, answered, margins[name != "errors"])
        _note(accounts, name, rows, bad[0])
    timed = phases.is_warm[rows] & (canary[:, -1] > 0)
    _bet_on_latency(phases, accounts, config, rows[timed], (canary[timed], stable[timed]))
    compared = canary[:, COMPARED]
    has = ~np.isnan(limit[rows]) & (compared > 0)
    ratio = canary[has, DISAGREEMENTS] / compared[has]
    expected = limit[rows[has]]
    gain = ratio / expected - 1.0
    _grow(accounts.capital["disagreement"], rows[has], gain, expected, compared[has])
    _note(accounts, "disagreement", rows[has], canary[has, DISAGREEMENTS])


def after(
    seconds: Array, phases: Phases, accounts: ManyAccounts, config: DeployConfig, limit: Array
) -> None:
    """Let time pass, and settle the bets whose time is over."""
    now = phases.seconds + seconds
    is_over = now - phases.settled_seconds >= phases.bet_seconds()
    settle(phases, accounts, config, limit, is_over)
    _trust(phases, config, is_over)
    phases.seconds = now
    phases.settled_seconds = np.where(is_over, now, phases.settled_seconds)
    phases.settled_canary[is_over] = phases.canary[is_over]
    phases.settled_stable[is_over] = phases.stable[is_over]


def _trust(phases: Phases, config: DeployConfig, where: Array) -> None:
    canary = phases.canary[where] - phases.settled_canary[where]
    stable = phases.stable[where] - phases.settled_stable[where]
    both = (canary[:, REQUESTS] > 0) & (stable[:, REQUESTS] > 0)
    margin = config.refused_error_ratio - config.allowed_error_ratio
    gain = margin - canary[:, ERRORS] / np.maximum(canary[:, REQUESTS], 1)
    gain = np.where(both, gain + stable[:, ERRORS] / np.maximum(stable[:, REQUESTS], 1), 0.0)
    grown = phases.trust[where] * (1.0 + _CONFIDENCE * gain[:, None])
    phases.trust[where] = np.minimum(grown, _MOST_CAPITAL)


def _bet_on_arms(
    accounts: ManyAccounts,
    name: str,
    rows: Array,
    bad: tuple[Array, Array],
    answered: tuple[Array, Array],
    margin: float,
) -> None:
    both = (answered[0] > 0) & (answered[1] > 0)
    rows, (mine, theirs) = rows[both], (one[both] for one in bad)
    of_canary, of_stable = (one[both] for one in answered)
    ratios = np.minimum(mine / of_canary, 1.0) - np.minimum(theirs / of_stable, 1.0)
    gain = np.where(accounts.exceeded[name][rows], ratios - margin, 0.0) / (1.0 + margin)
    accounts.exceeded[name][rows] = ratios > margin
    excess = accounts.capital[_EXCESS[name]]
    excess[rows] = np.minimum(excess[rows] * (1.0 + _CONFIDENCE * gain[:, None]), _MOST_CAPITAL)
    total, share = mine + theirs, of_canary / (of_canary + of_stable)
    has = total > 0
    gain = mine[has] / total[has] / share[has] - 1.0
    _grow(accounts.capital[name], rows[has], gain, share[has], total[has])


def _grow(capital: Array, rows: Array, gain: Array, expected: Array, events: Array) -> None:
    kept = (1.0 + expected[:, None] * (_BETS - 1.0)) ** -events[:, None]
    grown = capital[rows] * (1.0 + (1.0 - kept) * gain[:, None])
    capital[rows] = np.minimum(grown, _MOST_CAPITAL)


def _note(accounts: ManyAccounts, name: str, rows: Array, found: Array) -> None:
    accounts.bad[name][rows] += found
    accounts.bad_seconds[name][rows] += found > 0


def _bet_on_latency(
    phases: Phases,
    accounts: ManyAccounts,
    config: DeployConfig,
    rows: Array,
    second: tuple[Array, Array],
) -> None:
    canary, stable = second
    before = (phases.settled_stable[rows] - phases.warm_stable[rows])[:, HISTOGRAM:]
    for name, quantile in bets.QUANTILES.items():
        least = 3650 if name == "p99" else 0
        has = before[:, -1] >= max(least, config.min_requests_per_step)
        has &= phases.canary[rows, -1] >= least
        if not has.any():
            continue
        limit_ms = too_slow_ms(latency_ms(before[has], np.full(has.sum(), quantile)), config)
        ours, theirs = (slower_than(one[has, HISTOGRAM:], limit_ms) for one in (canary, stable))
        slow = ours, theirs
        timed = canary[has, -1], stable[has, -1]
        expected = np.full(has.sum(), 1.0 - quantile)
        gain = slow[0] / timed[0] / expected - 1.0
        _grow(accounts.capital[name], rows[has], gain, expected, timed[0])
        _bet_on_arms(accounts, _SLOWER[name], rows[has], slow, timed, 1.0 - quantile)
        _note(accounts, name, rows[has], slow[0])


# --- latencies ----------------------------------------------------------------------------------


def too_slow_ms(stable_ms: Array, config: DeployConfig) -> Array:
    return np.maximum(
        stable_ms * config.max_latency_ratio, stable_ms + config.min_latency_difference_ms
    )


def latency_ms(histogram: Array, quantile: Array) -> Array:
    """Return a quantile of each row's histogram, as `Counts.latency_ms`."""
    rank, counts = quantile * histogram[:, -1], histogram[:, :-1]
    below = np.where(rank[:, None] > 0, counts < rank[:, None], counts <= 0)
    place = below.sum(axis=1)
    inside = np.minimum(place, len(BOUNDS_MS) - 1)
    lower_bound, lower_count = _below(counts, inside)
    upper = counts[np.arange(len(counts)), inside]
    share = (rank - lower_count) / np.maximum(upper - lower_count, 1e-300)
    found = lower_bound + share * (BOUNDS_MS[inside] - lower_bound)
    beyond = np.where(histogram[:, -1] > 0, float(BOUNDS_MS[-1]), 0.0)
    return np.where(place == len(BOUNDS_MS), beyond, found)


def slower_than(histogram: Array, limit_ms: Array) -> Array:
    """Return how many answers of each row were slower, as `Counts.slower_than`."""
    counts, timed = histogram[:, :-1], histogram[:, -1]
    place = np.searchsorted(BOUNDS_MS, limit_ms, side="left")
    inside = np.minimum(place, len(BOUNDS_MS) - 1)
    lower_bound, lower_count = _below(counts, inside)
    share = (limit_ms - lower_bound) / (BOUNDS_MS[inside] - lower_bound)
    count = counts[np.arange(len(counts)), inside]
    found = timed - lower_count - share * (count - lower_count)
    return np.where(place == len(BOUNDS_MS), timed - counts[:, -1], found)


def _below(counts: Array, place: Array) -> tuple[Array, Array]:
    before = np.maximum(place - 1, 0)
    is_first = place == 0
    bound = np.where(is_first, 0.0, BOUNDS_MS[before])
    return bound, np.where(is_first, 0.0, counts[np.arange(len(counts)), before])


# --- passing ------------------------------------------------------------------------------------


@dataclass
class ManyTerms:
    """What the present phase of each rollout asks for; `way` is [rollouts, rungs, 4] counts."""

    is_shadow: Array
    limit: Array
    is_last: Array
    way: Array


def may_pass(phases: Phases, terms: ManyTerms, config: DeployConfig) -> Array:
    """Return where all tests agree; each is asked only where those before it agree."""
    n, found = phases.canary, phases.seconds >= config.min_seconds_per_step
    found &= np.where(
        terms.is_shadow & ~np.isnan(terms.limit),
        n[:, COMPARED] >= config.shadow_requests,
        n[:, REQUESTS] >= config.min_requests_per_step,
    )
    with np.errstate(invalid="ignore"):
        found &= ~(n[:, DISAGREEMENTS] > terms.limit * n[:, COMPARED])
    for test in (_errors, _client_errors, _latency):
        rows = np.flatnonzero(found)
        found[rows] = test(phases, rows, config)
    rows = np.flatnonzero(found & terms.is_last)
    found[rows] = _log_evidence_near_stable(terms.way[rows]) >= -math.log(config.beta)
    return found


def _errors(phases: Phases, rows: Array, config: DeployConfig) -> Array:
    canary, stable = phases.canary[rows], phases.stable[rows]
    active = phases.active[rows]
    bad = np.minimum(canary[:, ERRORS], canary[:, REQUESTS]) + active
    total = canary[:, REQUESTS] + active
    beside = stable[:, ERRORS], stable[:, REQUESTS]
    limits = Limits(config.allowed_error_ratio, config.refused_error_ratio)
    found = _accepted((bad, total), beside, limits, tests._OF_ERRORS, config.beta)
    most = _ratio(*beside) + limits.refused - limits.allowed
    trusted = phases.trust[rows].sum(axis=1) >= 1.0 / (tests._OF_ERRORS.by_bets * config.beta)
    found |= trusted & (total > 0) & (beside[1] > 0) & (_ratio(bad, total) < most)
    troubled = np.flatnonzero(_ratio(*beside) > limits.refused)
    surely = surely_above(beside[0][troubled], beside[1][troubled], 0.1 * config.beta)
    found[troubled] &= surely <= limits.refused
    return found


def _client_errors(phases: Phases, rows: Array, config: DeployConfig) -> Array:
    canary, stable = phases.canary[rows], phases.stable[rows]
    most = min(1.0, config.allowed_error_ratio + config.client_error_margin_ratio)
    return _accepted(
        (canary[:, CLIENT_ERRORS], canary[:, REQUESTS]),
        (stable[:, CLIENT_ERRORS], stable[:, REQUESTS]),
        Limits(config.allowed_error_ratio, most),
        tests._OF_CLIENT_ERRORS,
        config.beta,
    )


def _accepted(
    sample: tuple[Array, Array],
    stable: tuple[Array, Array],
    limits: Limits,
    parts: tests.Parts,
    beta: float,
) -> Array:
    found = _log_ratio(*sample, limits) <= math.log(parts.by_limits * beta)
    margin, enough = limits.refused - limits.allowed, -math.log(parts.by_margin * beta)
    rows = np.flatnonzero(~found & (stable[0] > 0))
    (bad, total), (stable_bad, stable_total) = ([a[rows] for a in b] for b in (sample, stable))
    near = _log_evidence_below(bad, total, stable_bad / np.maximum(stable_total, 1) + margin)
    kept = near >= enough
    rows, bad, total = rows[kept], bad[kept], total[kept]
    surely = surely_above(stable_bad[kept], stable_total[kept], parts.of_stable * beta)
    found[rows] = _log_evidence_below(bad, total, surely + margin) >= enough
    return found


def _log_ratio(bad: Array, total: Array, limits: Limits) -> Array:
    of_bad, of_good = log_likelihood_ratio(1, 1, limits), log_likelihood_ratio(0, 1, limits)
    return bad * of_bad + (total - bad) * of_good


def _latency(phases: Phases, rows: Array, config: DeployConfig) -> Array:
    found = phases.is_warm[rows].copy()
    canary, stable = (
        (now[rows] - warm[rows])[:, HISTOGRAM:]
        for now, warm in (
            (phases.canary, phases.warm_canary),
            (phases.stable, phases.warm_stable),
        )
    )
    least = config.min_requests_per_step
    found &= (canary[:, -1] >= least) & (stable[:, -1] >= least)
    asked = np.flatnonzero(found)
    timed = stable[asked, -1]
    surely_ms = latency_ms(stable[asked], _sure_quantile(timed, tests.OF_STABLE * config.beta))
    slow = slower_than(canary[asked], too_slow_ms(surely_ms, config))
    enough = math.log((1 - tests.OF_STABLE) * config.beta)
    found[asked] = _log_ratio(slow, canary[asked, -1], tests._SLOW) <= enough
    return found


def _sure_quantile(timed: Array, error: float) -> Array:
    low, high = np.floor(timed * tests._SLOW.allowed), timed.copy()
    while (open_ := high - low > 1).any():
        middle = np.where(open_, np.floor((low + high) / 2), high)
        allowed = np.full(len(timed), tests._SLOW.allowed)
        is_sure = _log_evidence_above(middle, timed, allowed) >= -math.log(error)
        high = np.where(open_ & is_sure, middle, high)
        low = np.where(open_ & ~is_sure, middle, low)
    return 1.0 - high / timed


def surely_above(bad: Array, total: Array, error: float) -> Array:
    """Return the largest ratio that each true one is surely above, as `sequential.surely_above`."""
    low, high = np.zeros(len(bad)), _ratio(bad, total)
    has = high > 0
    for _ in range(16):
        middle = (low + high) / 2
        evidence = np.full(len(bad), -np.inf)
        evidence[has] = _log_evidence_above(bad[has], total[has], middle[has])
        is_sure = evidence >= -math.log(error)
        low, high = np.where(is_sure, middle, low), np.where(is_sure, high, middle)
    return np.where(has, low, 0.0)


def _log_evidence_above(bad: Array, total: Array, limit: Array) -> Array:
    tail = special.betaincc(bad + 1, total - bad + 1, limit)
    return _log_mixture(bad, total, limit, tail) - np.log1p(-limit)


def _log_evidence_below(bad: Array, total: Array, limit: Array) -> Array:
    inside = np.minimum(limit, 1 - 1e-12)
    tail = special.betainc(bad + 1, total - bad + 1, inside)
    found = _log_mixture(bad, total, inside, tail) - np.log(inside)
    return np.where(limit >= 1.0, np.where(bad < total, np.inf, 0.0), found)


def _log_mixture(bad: Array, total: Array, limit: Array, tail: Array) -> Array:
    good = total - bad
    with np.errstate(divide="ignore"):
        mixture = special.betaln(bad + 1, good + 1) + np.log(tail)
    return mixture - bad * np.log(limit) - good * np.log1p(-limit)


def _log_evidence_near_stable(way: Array) -> Array:
    """Return `whole_way.log_evidence_near_stable` of [rollouts, rungs, 4] counts."""
    errors, requests, stable_errors, stable_requests = np.moveaxis(way, 2, 0)
    both, ratio = (
        _ratio(errors + stable_errors, requests + stable_requests),
        _ratio(errors, requests),
    )
    of_stable = _ratio(stable_errors, stable_requests)
    corner = LEAST_RATIO / TIMES

    def likelihood(canary: Array, stable: Array) -> Array:
        of_canary = special.xlogy(errors, canary) - requests * canary
        return of_canary + special.xlogy(stable_errors, stable) - stable_requests * stable

    common = np.maximum(corner, _ratio(errors + stable_errors, TIMES * requests + stable_requests))
    edges = np.maximum(
        likelihood(np.full_like(ratio, LEAST_RATIO), np.minimum(corner, of_stable)),
        likelihood(TIMES * common, common),
    )
    is_bad = ratio >= np.maximum(LEAST_RATIO, TIMES * of_stable)
    found: Array = likelihood(both, both) - np.where(is_bad, likelihood(ratio, of_stable), edges)
    return found.sum(axis=1)


def _ratio(events: Array, total: Array) -> Array:
    found: Array = np.where(total > 0, events / np.maximum(total, 1e-300), 0.0)
    return found
