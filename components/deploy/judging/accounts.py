"""What the bets against a canary have come to: the evidence on which it is rolled back.

Each test is a bet that the canary is worse than the concurrent stable version, settled once a
second, or once in the time of three canary answers (`sequential.after_bet`); what it has gained is
the evidence. One `alpha` pays for the whole way: ALPHA_SHARES divides it over the tests, and each
test's stake of 1 is divided over the phases, most of it on the first rung, where callers first meet
the version. What a phase has gained or lost continues into the next; the fresh stake there means
that a long clean record hides nothing.
"""

from typing import NamedTuple

from pydantic import Field

from components.deploy.judging.evidence import Counts
from components.deploy.judging.sequential import (
    EVENLY,
    MOSTLY_FIVEFOLD,
    Capital,
    after_arms,
    after_bet,
    after_excess,
    after_margin,
    excess,
    paid_in,
)
from contract.records.record import Record
from contract.schema.serving import DeployConfig

# The tenth that is left over keeps a measured rate below alpha with its upper bound, too.
ALPHA_SHARES = {
    "errors": 0.58,
    "client errors": 0.05,
    "p95": 0.18,
    "p99": 0.03,
    "disagreement": 0.06,
}
# Both must hold: too many are slow, and more than of stable's at the same time.
_SLOWER = {"p95": "p95 against stable", "p99": "p99 against stable"}
QUANTILES = {"p95": 0.95, "p99": 0.99}
# Beside a bet on the arm that an event falls on, a part of its stake is for a bet on the arms'
# ratios, which is the quick one where the canary has most of the traffic and fails altogether.
_IN_EXCESS = {name: f"{name} in excess" for name in ("errors", "client errors", *_SLOWER.values())}
_EXCESS_PART = 0.04
# Of each arm, 36 of them above it: nothing is claimed of a p99 that fewer have shown.
_LEAST_TIMED_FOR_P99 = 3650
_SHADOW_STAKE, _FIRST_RUNG_STAKE = 0.1, 0.7
# Fewer bad answers than these, or in fewer seconds, may be one incident.
_LEAST_BAD, _LEAST_BAD_SECONDS = 6, 3
# A bet lasts as long as so many answers of the canary take, by its rate so far, within these
# bounds: a second without an answer of the canary proves nothing, whatever stable's errors say.
_ANSWERS_PER_BET = 3.0
_SHORTEST_BET_SECONDS, _LONGEST_BET_SECONDS = 1.0, 60.0


def bet_seconds(canary_requests_per_second: float) -> float:
    """Return how long a bet lasts where the canary answers so many requests a second."""
    wanted = _ANSWERS_PER_BET / canary_requests_per_second
    return min(max(wanted, _SHORTEST_BET_SECONDS), _LONGEST_BET_SECONDS)


class Phase(Record):
    """What was counted of both arms in one phase, and up to where the bets are settled.

    `settled_*` are the counts at the last settlement, `warm_*` those when the warm-up was over.
    `trust` is the capital of the bets that the canary has fewer errors than a margin above stable.
    """

    seconds: float = 0.0
    canary: Counts = Counts()
    stable: Counts = Counts()
    settled_seconds: float = 0.0
    settled_canary: Counts = Counts()
    settled_stable: Counts = Counts()
    warm_canary: Counts | None = None
    warm_stable: Counts = Counts()
    trust: Capital = EVENLY

    def grown(self, canary: Counts, stable: Counts, warm_up_requests: int) -> "Phase":
        """Return the phase with what was counted at one more look."""
        changes = {"canary": self.canary + canary, "stable": self.stable + stable}
        if self.warm_canary is None and changes["canary"].timed >= warm_up_requests:
            changes |= {"warm_canary": changes["canary"], "warm_stable": changes["stable"]}
        return self.model_copy(update=changes)

    def bet_seconds(self) -> float:
        """Return how long the present bet lasts: known at its start, whatever happens meanwhile.

        A bet that ended with an answer would be biased where errors come together.
        """
        if not self.settled_seconds:
            return _SHORTEST_BET_SECONDS
        return bet_seconds((self.settled_canary.requests + 1) / self.settled_seconds)

    def timed(self) -> tuple[Counts, Counts]:
        """Return what was timed of (canary, stable) since the warm-up; nothing during it."""
        if self.warm_canary is None:
            return Counts(), Counts()
        return self.canary.since(self.warm_canary), self.stable.since(self.warm_stable)


class Accounts(Record):
    """The capital of every bet, and how often, in how many seconds, the canary was bad by it.

    `exceeded` tells by test whether the canary's ratio was above stable's by the margin at the last
    settlement.
    """

    capital: dict[str, Capital] = Field({})
    exceeded: dict[str, bool] = Field({})
    bad: dict[str, float] = Field({})
    bad_seconds: dict[str, int] = Field({})

    def evidence(self) -> dict[str, float]:
        """Return by test how many times its stakes have multiplied."""
        return {name: self._evidence_of(name) for name in ALPHA_SHARES if name in self.capital}

    def proven(self, alpha: float) -> str:
        """Return the test, if any, that has proven the canary worse; else an empty text."""
        for name in ALPHA_SHARES:
            is_enough = name in self.capital and self._evidence_of(name) >= bound(name, alpha)
            if is_enough and self._is_repeated(name):
                return name
        return ""

    def _evidence_of(self, name: str) -> float:
        gained, other = self._gained(name), _SLOWER.get(name)
        return gained if other is None else min(gained, self._gained(other))

    def _gained(self, name: str) -> float:
        in_excess = self.capital.get(_IN_EXCESS.get(name, ""), ())
        return sum(self.capital.get(name, ())) + sum(in_excess)

    def _is_repeated(self, name: str) -> bool:
        seconds = self.bad_seconds.get(name, 0)
        return self.bad.get(name, 0.0) >= _LEAST_BAD and seconds >= _LEAST_BAD_SECONDS


def bound(test: str, alpha: float) -> float:
    """Return the evidence from which on a test rolls back (Ville 1939)."""
    return 1.0 / (alpha * ALPHA_SHARES[test])


def stakes(phases: int, has_shadow: bool) -> tuple[float, ...]:
    """Return how the stake of 1 is divided over the phases."""
    shadow = (_SHADOW_STAKE,) if has_shadow else ()
    rungs = phases - len(shadow)
    left = 1.0 - sum(shadow)
    if rungs == 1:
        return (*shadow, left)
    rest = (left - _FIRST_RUNG_STAKE) / (rungs - 1)
    return (*shadow, _FIRST_RUNG_STAKE, *(rest,) * (rungs - 1))


def with_stake(accounts: Accounts, amount: float) -> Accounts:
    """Return the accounts at the beginning of a phase."""
    names = (*ALPHA_SHARES, *_SLOWER.values(), *_IN_EXCESS.values())
    capital = {
        name: paid_in(accounts.capital.get(name, ()), amount, _parts(name)) for name in names
    }
    return accounts.model_copy(update={"capital": capital})


def _parts(name: str) -> tuple[float, ...]:
    """Return how a stake of 1 on a test is divided over the bets of one of its accounts."""
    parts = MOSTLY_FIVEFOLD if name == "errors" else EVENLY
    if name in _IN_EXCESS.values():
        whole = _EXCESS_PART
    else:
        whole = 1.0 - _EXCESS_PART if name in _IN_EXCESS else 1.0
    return tuple(whole * part for part in parts)


def after(
    seconds: float,
    phase: Phase,
    accounts: Accounts,
    config: DeployConfig,
    disagreement_limit: float | None,
) -> tuple[Phase, Accounts]:
    """Return phase and accounts some time later; bets are settled where their time is over."""
    now = phase.seconds + seconds
    if now - phase.settled_seconds < phase.bet_seconds():
        return phase.model_copy(update={"seconds": now}), accounts
    second = _unsettled(phase)
    found = _settled(accounts, phase, second, config, disagreement_limit)
    changes = {
        "seconds": now,
        "settled_seconds": now,
        "settled_canary": phase.canary,
        "settled_stable": phase.stable,
        "trust": _trust(phase.trust, second, config),
    }
    return phase.model_copy(update=changes), found


def _unsettled(phase: Phase) -> tuple[Counts, Counts]:
    """Return what was counted of (canary, stable) since the last settlement."""
    canary = phase.canary.since(phase.settled_canary)
    return canary, phase.stable.since(phase.settled_stable)


def _trust(trust: Capital, second: tuple[Counts, Counts], config: DeployConfig) -> Capital:
    canary, stable = second
    bad, answered = (canary.errors, stable.errors), (canary.requests, stable.requests)
    margin = config.refused_error_ratio - config.allowed_error_ratio
    return after_margin(trust, bad, answered, margin)


def settled(
    accounts: Accounts, phase: Phase, config: DeployConfig, disagreement_limit: float | None
) -> Accounts:
    """Return the accounts after the bets on what was counted since the last settlement.

    `disagreement_limit` is None where answers are not compared.
    """
    return _settled(accounts, phase, _unsettled(phase), config, disagreement_limit)


def _settled(
    accounts: Accounts,
    phase: Phase,
    second: tuple[Counts, Counts],
    config: DeployConfig,
    disagreement_limit: float | None,
) -> Accounts:
    canary, stable = second
    books, answered = _Books.of(accounts), (canary.requests, stable.requests)
    bad: dict[str, float] = {"errors": canary.errors, "client errors": canary.client_errors}
    beside = {"errors": stable.errors, "client errors": stable.client_errors}
    margins = {
        "errors": config.refused_error_ratio,
        "client errors": config.client_error_margin_ratio,
    }
    for name in bad:
        _bet_on_arms(books, name, (bad[name], beside[name]), answered, margins[name])
    if phase.warm_canary is not None and canary.timed:
        bad |= _bet_on_latency(books, phase, second, config)
    if disagreement_limit is not None and canary.compared:
        ratio = canary.disagreements / canary.compared
        books.capital["disagreement"] = after_bet(
            books.capital["disagreement"], ratio, disagreement_limit, canary.compared
        )
        bad["disagreement"] = canary.disagreements
    return accounts.model_copy(
        update={
            "capital": books.capital,
            "exceeded": books.exceeded,
            "bad": accounts.bad | {n: accounts.bad.get(n, 0) + found for n, found in bad.items()},
            "bad_seconds": accounts.bad_seconds
            | {n: accounts.bad_seconds.get(n, 0) + (found > 0) for n, found in bad.items()},
        }
    )


class _Books(NamedTuple):
    """The accounts that one settlement changes; see Accounts."""

    capital: dict[str, Capital]
    exceeded: dict[str, bool]

    @classmethod
    def of(cls, accounts: Accounts) -> "_Books":
        return cls(dict(accounts.capital), dict(accounts.exceeded))


def _bet_on_arms(
    books: _Books,
    name: str,
    bad: tuple[float, float],
    answered: tuple[int, int],
    margin: float,
) -> None:
    """Settle both bets of a comparison of (canary, stable).

    A bet on the excess loses in each second without one. So it is made where the second before had
    one, which is known before the bet, and a clean record costs nothing.
    """
    if not all(answered):
        return
    capital, in_excess = books.capital, _IN_EXCESS[name]
    capital[name] = after_arms(capital[name], bad, answered)
    if books.exceeded.get(name):
        # A trial that began before there was this bet has nothing staked on it.
        capital[in_excess] = after_excess(capital.get(in_excess, ()), bad, answered, margin)
    books.exceeded[name] = excess(bad, answered) > margin


def too_slow_ms(stable_ms: float, config: DeployConfig) -> float:
    """Return the latency above which a request is slow, of what stable's quantile is."""
    return max(stable_ms * config.max_latency_ratio, stable_ms + config.min_latency_difference_ms)


def _bet_on_latency(
    books: _Books, phase: Phase, second: tuple[Counts, Counts], config: DeployConfig
) -> dict[str, float]:
    """Settle each quantile's two bets on a second; return how many of the canary's were slow.

    The limit comes from what stable has shown before this second, since the warm-up.
    """
    canary, stable = second
    before = phase.settled_stable.since(phase.warm_stable)
    found = dict[str, float]()
    for name, quantile in QUANTILES.items():
        least = _LEAST_TIMED_FOR_P99 if name == "p99" else 0
        if before.timed < max(least, config.min_requests_per_step) or phase.canary.timed < least:
            continue
        limit_ms = too_slow_ms(before.latency_ms(quantile), config)
        slow = (canary.slower_than(limit_ms), stable.slower_than(limit_ms))
        ratio, timed = slow[0] / canary.timed, (canary.timed, stable.timed)
        before_bet = books.capital[name]
        books.capital[name] = after_bet(before_bet, ratio, 1.0 - quantile, canary.timed)
        _bet_on_arms(books, _SLOWER[name], slow, timed, 1.0 - quantile)
        found[name] = slow[0]
    return found
