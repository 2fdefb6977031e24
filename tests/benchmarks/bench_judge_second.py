"""The rollout's error rates, simulated a second time, by another program.

Run as `python tests/benchmarks/bench_judge_second.py [--rollouts N] [--only TEXT]`. It was written
from docs/rollout.md alone, before its author had read the judge, and imports nothing of it: stakes,
bets, bounds and traffic are its own. (Bets that last longer where traffic is scarce, those on both
ratios, those on an excess, and the test of the whole way were added later; stable never keeps more
than 5 % here.) All
rollouts of a scenario advance side by side, one simulated second at a time, as numpy arrays. Where
its rates and those of `bench_judge.py` are further apart than their intervals, one of the two
programs, or the text between them, is wrong.

It simplifies: seconds instead of quarters; answers come in the second of their request unless they
hang; limits of latency are exact instead of a histogram's; bets are a fixed mixture of sizes.
"""

import argparse
from dataclasses import dataclass, field

import numpy as np
from scipy import stats
from support import emit

Array = np.ndarray

ALPHA, BETA = 0.01, 0.01
STAKE_OF = {"errors": 0.58, "refused": 0.05, "p95": 0.18, "p99": 0.03, "rows": 0.06}
WEIGHTS = np.array([0.0, 0.01, 0.05, 0.25, 0.5, 0.95])  # phase 0 is the shadow
SHADOW_PART, FIRST_PART, LATER_PART = 0.1, 0.7, 0.05  # of a stake, paid at a phase's start
BETS = np.array([0.9, 0.4, 0.15, 0.06, 0.02, 0.007])  # share of the stake that is risked
BUDGET_SECONDS, RUNG_SECONDS, HANG_SECONDS = 3600, 60, 30
ACCEPT = -4.866  # log likelihood ratio: 118 requests without an error, docs/rollout.md
SHADOW, LAST, PROMOTED, ROLLED_BACK, INCONCLUSIVE = 0, 5, 10, 11, 12


@dataclass(frozen=True)
class World:
    """What both versions do under traffic; ratios 0..1, rates in requests a second."""

    name: str
    goal: float  # limit of the wrong outcomes, or least share of the right ones
    is_good: bool = False
    stable_errors: float = 0.0
    canary_errors: float = 0.0
    errors_from: float = 0.0  # the canary's errors begin at this weight
    burst: int = 1  # errors that come together on one arm
    brings_requests: bool = False  # a burst comes on top of the other requests
    outage: float = 0.0  # share of the seconds in which both arms fail
    refused: float = 0.0
    slower: float = 1.0
    hanging: float = 0.0
    rates: tuple[float, float] = (4.0, 1000.0)
    has_shadow: bool = True


WORLDS = (
    *(
        World(f"both {p:.0%} errors", 0.01, True, p, p)  #
        for p in (0.0, 0.01, 0.02, 0.05)
    ),
    World(
        "both 5% errors, 50 requests a second and more", 0.01, True, 0.05, 0.05, rates=(50, 1000)
    ),
    World("both 1% errors in bursts of 20", 0.01, True, 0.01, 0.01, burst=20),
    World(
        "both 1% errors in bursts of 20 retries",
        0.01,
        True,
        0.01,
        0.01,
        burst=20,
        brings_requests=True,
    ),
    World("both down for 1% of the time", 0.01, True, outage=0.01),
    World("1% to 5% errors, no shadow", 0.99, False, 0.01, 0.05, has_shadow=False),
    World("0.1% to 1% errors", 0.95, False, 0.001, 0.01),
    World("5% errors from the 50% rung on", 0.99, False, 0.01, 0.05, errors_from=0.5),
    World("5% errors from the 95% rung on", 0.99, False, 0.01, 0.05, errors_from=0.95),
    World("all fail from the 95% rung on", 0.99, False, 0.01, 1.0, errors_from=0.95),
    World("four times slower", 0.99, slower=4.0),
    World("half hanging", 0.999, hanging=0.5),
    World("every request refused", 0.999, refused=1.0),
    World("no traffic", 0.0, rates=(0.0, 0.0)),
)


@dataclass
class Rollouts:
    """The state of all rollouts that are under way: every array begins with [rollouts]."""

    number: Array  # of the rollout, for its outcome
    phase: Array
    age: Array  # seconds in this phase
    rate: Array
    sigma: Array  # of the logarithm of a latency
    rows_limit: Array  # share of rows that may differ
    rows_spread: Array  # variance of one request's share over that of one row
    wealth: dict[str, Array]  # [rollouts, bets] of each test
    exceeded: dict[str, Array]  # whether the ratios differed by more than the margin, just now
    counts: dict[str, Array]  # of this phase; those of the whole way are named `all_...`
    hung: Array  # [rollouts, HANG_SECONDS] requests that hang, by the second they came in
    seen: Array  # [rollouts, 2] stable's answers and errors before the first rung
    had_rung: Array  # whether the part of the first rung was paid
    pending: dict[str, Array]  # what came since the last bet
    lasts: Array  # seconds of the present bet, known at its start
    trust: Array  # [rollouts, 3] capital of the bets that the canary is near stable
    way: Array  # [rollouts, phases, 4] answers and errors of the canary, then of stable

    def keep(self, mask: Array) -> None:
        """Drop the rollouts that have ended."""
        for name, value in vars(self).items():
            if isinstance(value, dict):
                setattr(self, name, {k: v[mask] for k, v in value.items()})
            else:
                setattr(self, name, value[mask])


COMPARED = ("errors", "refused", "p95 of both", "p99 of both")
TESTS = (*COMPARED, "p95", "p99", "rows", *(f"{name} excess" for name in COMPARED))
EXCESS_PART = 0.04
COUNTS = ("canary", "stable", "canary_bad", "stable_bad", "refused", "stable_refused", "slow")
SLOW = ("slow p95", "slow p99", "stable_slow p95", "stable_slow p99")
PENDING = ("seconds", "canary", "stable", "canary_bad", "stable_bad", "refused", "timed", *SLOW)
KEPT = ("all_bad", "all_bad_bets", "all_canary")


def start(world: World, size: int, random: np.random.Generator) -> Rollouts:
    low, high = world.rates
    rate = np.exp(random.uniform(np.log(low), np.log(high), size)) if low else np.zeros(size)
    rows, alike = np.exp(random.uniform(0, 5, size)), random.uniform(0, 1, size)
    state = Rollouts(
        number=np.arange(size),
        phase=np.full(size, SHADOW if world.has_shadow else 1),
        age=np.zeros(size),
        rate=rate,
        sigma=random.uniform(0.2, 0.7, size),
        rows_limit=2 * (1 - random.uniform(0.8, 0.99, size)),
        rows_spread=alike + (1 - alike) / rows,
        wealth={test: np.zeros((size, len(BETS))) for test in TESTS},
        exceeded={test: np.zeros(size, bool) for test in COMPARED},
        counts={name: np.zeros(size) for name in (*COUNTS, *KEPT)},
        hung=np.zeros((size, HANG_SECONDS)),
        seen=np.zeros((size, 2)),
        had_rung=np.zeros(size, bool),
        pending={name: np.zeros(size) for name in PENDING},
        lasts=np.ones(size),
        trust=np.full((size, 3), 1 / 3),
        way=np.zeros((size, LAST + 1, 4)),
    )
    if not world.has_shadow:  # ten seconds are watched before the first rung
        state.seen[:, 0] = random.poisson(10 * rate)
        state.seen[:, 1] = random.binomial(state.seen[:, 0].astype(int), world.stable_errors)
        state.phase = first_rung(state, BUDGET_SECONDS - 10.0)
    pay(state, np.full(size, True))
    return state


def pay(state: Rollouts, enters: Array) -> None:
    """Pay the stakes of a phase; the first rung, whichever it is, gets the largest part."""
    is_rung = state.phase > SHADOW
    part = np.where(is_rung, np.where(state.had_rung, LATER_PART, FIRST_PART), SHADOW_PART)
    for name, wealth in state.wealth.items():
        whole = 1.0 - EXCESS_PART if name in COMPARED else 1.0
        whole = EXCESS_PART if name.endswith("excess") else whole
        wealth[enters] += (whole * part[enters] / len(BETS))[:, None]
    state.had_rung |= enters & is_rung


def canary_requests(errors: Array) -> Array:
    """Return how many requests of a canary with this share of errors pass a rung, in the mean."""
    allowed = np.clip(errors, 0.01, 0.9)
    refused = allowed + 0.04
    errors = np.minimum(errors, 0.9)
    drift = errors * np.log(refused / allowed) + (1 - errors) * np.log(
        (1 - refused) / (1 - allowed)
    )
    return np.maximum(118, ACCEPT / drift)


def first_rung(state: Rollouts, seconds_left: float | Array) -> Array:
    """Return the lowest rung from which the way fits into half of the time left, one of 1..4."""
    errors = state.seen[:, 1] / np.maximum(state.seen[:, 0], 1)
    rate = np.maximum(state.rate, 1e-9)
    way = np.zeros((len(rate), LAST + 1))
    for rung in range(LAST, 0, -1):
        stable = np.where(errors > 0.02, 500, 50)
        needs = np.maximum(canary_requests(errors) / WEIGHTS[rung], stable / (1 - WEIGHTS[rung]))
        later = way[:, rung + 1] if rung < LAST else 0.0
        way[:, rung] = np.maximum(RUNG_SECONDS, needs / rate) + later
    fits = way[:, 1:LAST] <= np.asarray(seconds_left)[..., None] / 2
    return np.where(fits.any(axis=1), fits.argmax(axis=1) + 1, LAST - 1)


@dataclass
class Second:
    """What one second brought, arrays [rollouts]."""

    canary: Array  # answers, those that hung before and came now with them
    stable: Array
    canary_bad: Array
    stable_bad: Array
    refused: Array
    timed: Array
    slow: dict[str, Array] = field(default_factory=dict)  # above 3 times stable's percentile
    stable_slow: dict[str, Array] = field(default_factory=dict)


def bad_answers(
    world: World, answers: Array, ratio: float | Array, random: np.random.Generator
) -> tuple[Array, Array]:
    """Return the errors among these answers, and how many answers come with them on top.

    In bursts their number in the mean is the same.
    """
    if world.burst == 1:
        return random.binomial(answers, ratio), 0 * answers
    bad = world.burst * random.poisson(answers * ratio / world.burst)
    if world.brings_requests:
        return bad, bad
    return np.minimum(answers, bad), 0 * answers


def second_of(world: World, state: Rollouts, random: np.random.Generator) -> Second:
    weight, in_shadow = WEIGHTS[state.phase], state.phase == SHADOW
    requests = random.poisson(state.rate)
    sent = np.where(in_shadow, requests, random.binomial(requests, weight))
    stable = np.where(in_shadow, requests, requests - sent)
    if world.hanging:  # the shadow drops copies beyond 32 under way
        room = np.maximum(0, 32 - state.hung.sum(axis=1)) / world.hanging
        sent = np.where(in_shadow, np.minimum(sent, room), sent).astype(int)
    hangs = random.binomial(sent, world.hanging)
    timed_out = state.hung[:, 0].astype(int)
    state.hung[:, :-1], state.hung[:, -1] = state.hung[:, 1:], hangs
    answered = sent - hangs
    refused = random.binomial(answered, world.refused)
    ratio = np.where(weight >= world.errors_from, world.canary_errors, world.stable_errors)
    canary_bad, more = bad_answers(world, answered, ratio, random)
    stable_bad, more_of_stable = bad_answers(world, stable, world.stable_errors, random)
    answered, stable = answered + more, stable + more_of_stable
    if world.outage:
        is_down = random.uniform(size=len(weight)) < world.outage
        canary_bad = np.where(is_down, answered, canary_bad)
        stable_bad = np.where(is_down, stable, stable_bad)
    # what stable answers and the shadow refuses is the shadow's error, not a client's
    canary_bad = canary_bad + np.where(in_shadow, refused, 0) + timed_out
    refused = np.where(in_shadow, 0, refused)
    warm = np.clip(state.counts["canary"] + answered - 20, 0, answered)
    timed = warm.astype(int)
    second = Second(
        answered + timed_out, stable, canary_bad, stable_bad, refused, timed + timed_out
    )
    for name, quantile in (("p95", 0.95), ("p99", 0.99)):
        above = stats.norm.ppf(quantile) + np.log([3.0, 3.0 / world.slower])[:, None] / state.sigma
        same, slower = stats.norm.sf(above)
        second.slow[name] = random.binomial(timed, slower) + timed_out
        second.stable_slow[name] = random.binomial(stable, same)
    return second


def share_gain(bad: Array, stable_bad: Array, second: Second) -> Array:
    """Return what a bet on `the canary's share of what is bad is larger` gains, from -1 upwards."""
    total, answers = bad + stable_bad, second.canary + second.stable
    share = second.canary / np.maximum(answers, 1)
    both = (total > 0) & (second.canary > 0) & (second.stable > 0)
    gain: Array = np.where(both, bad / np.maximum(total, 1) / np.maximum(share, 1e-12) - 1, 0.0)
    return gain


def bet_on_excess(
    state: Rollouts, name: str, bad: Array, stable_bad: Array, second: Second, margin: float
) -> None:
    """Let a twenty-fifth of a stake bet that the ratios differ by more than a margin.

    Only where they did so in the bet before: that is known in time, and costs nothing otherwise.
    """
    both = (second.canary > 0) & (second.stable > 0)
    ratio, of_stable = bad / np.maximum(second.canary, 1), stable_bad / np.maximum(second.stable, 1)
    gain = np.minimum(ratio, 1.0) - np.minimum(of_stable, 1.0) - margin
    grow(state, f"{name} excess", np.where(both & state.exceeded[name], gain / (1 + margin), 0.0))
    state.exceeded[name] = np.where(both, gain > 0, state.exceeded[name])


def of_bet(state: Rollouts, second: Second) -> Second:
    """Add a second to the present bets; return those that are over, zeros for the others."""
    pending = state.pending
    pending["seconds"] = pending["seconds"] + 1
    for name in ("canary", "stable", "canary_bad", "stable_bad", "refused", "timed"):
        pending[name] = pending[name] + getattr(second, name)
    for name in second.slow:
        pending[f"slow {name}"] = pending[f"slow {name}"] + second.slow[name]
        pending[f"stable_slow {name}"] = pending[f"stable_slow {name}"] + second.stable_slow[name]
    return taken(state, pending["seconds"] >= state.lasts)


def taken(state: Rollouts, is_over: Array) -> Second:
    """Take what is pending where a bet is over, and begin the next there."""
    found = {name: np.where(is_over, values, 0) for name, values in state.pending.items()}
    state.pending = {n: np.where(is_over, 0, values) for n, values in state.pending.items()}
    rate = (state.counts["canary"] + 1) / np.maximum(state.age, 1)
    state.lasts = np.where(is_over, np.clip(3 / rate, 1, 60), state.lasts)
    plain = ("canary", "stable", "canary_bad", "stable_bad", "refused", "timed")
    over = Second(**{name: found[name] for name in plain})  # type: ignore[arg-type]
    for name in ("p95", "p99"):
        over.slow[name] = found[f"slow {name}"]
        over.stable_slow[name] = found[f"stable_slow {name}"]
    return over


def bet(state: Rollouts, over: Second) -> None:
    """Let each test bet on what came in the time of a bet."""
    gains = {
        "errors": share_gain(over.canary_bad, over.stable_bad, over),
        "refused": share_gain(over.refused, np.zeros(len(over.refused)), over),
    }
    for name, share in (("p95", 0.05), ("p99", 0.01)):
        slow = over.slow[name] / np.maximum(over.timed, 1)
        gain = np.where(over.timed > 0, slow / share - 1, 0.0)
        shares = share_gain(over.slow[name], over.stable_slow[name], over)
        early = state.counts["all_canary"] < (3650 if name == "p99" else 20)
        gains[name] = np.where(early, 0.0, gain)
        gains[f"{name} of both"] = np.where(early, 0.0, shares)
    for name, gain in gains.items():
        grow(state, name, gain)
    bet_on_excess(state, "errors", over.canary_bad, over.stable_bad, over, 0.05)
    bet_on_excess(state, "refused", over.refused, 0 * over.refused, over, 0.1)
    for name, margin in (("p95", 0.05), ("p99", 0.01)):
        slow, beside = over.slow[name], over.stable_slow[name]
        bet_on_excess(state, f"{name} of both", slow, beside, over, margin)
    bad = over.canary_bad + over.refused + over.slow["p95"]
    state.counts["all_bad"] += bad
    state.counts["all_bad_bets"] += bad > 0
    both = (over.canary > 0) & (over.stable > 0)
    difference = over.canary_bad / np.maximum(over.canary, 1)
    difference = difference - over.stable_bad / np.maximum(over.stable, 1)
    near = np.where(both, 0.04 - difference, 0.0)[:, None]
    state.trust = np.minimum(state.trust * (1 + near * np.array([0.25, 0.5, 1.0])), 1e30)


def bet_on_rows(state: Rollouts, second: Second, random: np.random.Generator) -> None:
    """Let the test of disagreement bet; the versions are as alike as their accuracies say."""
    requests = np.maximum(1, np.round(second.canary / state.rows_spread)).astype(int)
    rows = random.binomial(requests, 0.6 * state.rows_limit) / requests
    in_shadow = (state.phase == SHADOW) & (second.canary > 0)
    grow(state, "rows", np.where(in_shadow, rows / state.rows_limit - 1, 0.0))


def grow(state: Rollouts, name: str, gain: Array) -> None:
    """Pay a bet out, by what it gains for each part that is risked."""
    state.wealth[name] *= 1 + np.maximum(gain, -1.0)[:, None] * BETS
    np.minimum(state.wealth[name], 1e30, out=state.wealth[name])


def count(state: Rollouts, second: Second) -> None:
    counts = state.counts
    counts["canary"] += second.canary
    counts["stable"] += second.stable
    counts["canary_bad"] += second.canary_bad
    counts["stable_bad"] += second.stable_bad
    counts["refused"] += second.refused
    counts["slow"] += second.slow["p95"]
    counts["all_canary"] += second.canary
    of_second = (second.canary, second.canary_bad, second.stable, second.stable_bad)
    state.way[np.arange(len(state.phase)), state.phase] += np.stack(of_second, axis=1)
    before = state.phase == SHADOW
    state.seen += np.where(before[:, None], np.stack([second.stable, second.stable_bad], 1), 0)
    state.age += 1


def is_worse(state: Rollouts) -> Array:
    """Return which canaries are shown to be worse."""
    wealth = {name: of_bets.sum(axis=1) for name, of_bets in state.wealth.items()}
    wealth |= {name: wealth[name] + wealth[f"{name} excess"] for name in COMPARED}
    evidence = {
        "errors": wealth["errors"],
        "refused": wealth["refused"],
        "p95": np.minimum(wealth["p95"], wealth["p95 of both"]),
        "p99": np.minimum(wealth["p99"], wealth["p99 of both"]),
        "rows": wealth["rows"],
    }
    shown = np.any([evidence[n] >= 1 / (ALPHA * STAKE_OF[n]) for n in evidence], axis=0)
    enough = (state.counts["all_bad"] >= 6) & (state.counts["all_bad_bets"] >= 3)
    return shown & (enough | (evidence["rows"] >= 1 / (ALPHA * STAKE_OF["rows"])))


def lower_end(bad: Array, answers: Array) -> Array:
    """Return the lower end of a confidence sequence for a ratio (Robbins 1970, normal mixture)."""
    ratio = bad / np.maximum(answers, 1)
    variance, prior = answers * ratio * (1 - ratio) + 1, 10.0
    mixed = variance + prior
    radius = np.sqrt(mixed * (2 * np.log(2 / BETA) + np.log(mixed / prior)))
    return np.maximum(0.0, ratio - radius / np.maximum(answers, 1))


def accepts(bad: Array, answers: Array, allowed: Array, margin: float) -> Array:
    """Return where Wald's test (1945) accepts `allowed` against `allowed + margin`."""
    refused = np.minimum(allowed + margin, 0.999)
    ratio = bad * np.log(refused / allowed)
    ratio += (answers - bad) * np.log((1 - refused) / (1 - allowed))
    return ratio <= ACCEPT


def stable_ratio(counts: dict[str, Array]) -> Array:
    """Return stable's share of errors in this phase."""
    ratio: Array = counts["stable_bad"] / np.maximum(counts["stable"], 1)
    return ratio


RATIOS = np.concatenate([[1e-9], np.geomspace(1e-5, 0.2, 120)])  # that stable may have


def is_near_on_the_whole_way(way: Array) -> Array:
    """Return where the errors of all rungs show less than five times stable's, or than 1 %.

    On each rung the likelihood of one ratio for both is set against that of the likeliest pair of
    which the canary's is at least that high, by a search over stable's ratio.
    """
    canary, bad, stable, stable_bad = (way[:, 1:, n] for n in range(4))
    found = np.zeros(len(way))
    for rung in range(LAST):
        n, k, m, j = (one[:, rung, None] for one in (canary, bad, stable, stable_bad))
        both = np.maximum((k + j) / np.maximum(n + m, 1), 1e-12)
        alike = ((k + j) * np.log(both) - (n + m) * both)[:, 0]
        least = np.maximum(0.01, 5 * RATIOS)[None, :]
        ratio = np.maximum(least, k / np.maximum(n, 1))
        pairs = k * np.log(ratio) - n * ratio + j * np.log(RATIOS) - m * RATIOS
        found += alike - pairs.max(axis=1)
    return found >= -np.log(BETA)


def may_pass(state: Rollouts) -> Array:
    """Return which canaries pass their phase."""
    n, hung = state.counts, state.hung.sum(axis=1)
    stable = lower_end(n["stable_bad"], n["stable"])
    base, clients = np.full(len(stable), 0.01), np.full(len(stable), 0.01)
    bad, all_sent = n["canary_bad"] + hung, n["canary"] + hung
    passes = accepts(bad, all_sent, base, 0.04)
    passes |= accepts(bad, all_sent, np.maximum(stable, 1e-6), 0.04) & (stable > 0)
    near = stable_ratio(n) + 0.04 > bad / np.maximum(all_sent, 1)
    passes |= (state.trust.sum(axis=1) >= 1 / (0.1 * BETA)) & near
    passes &= accepts(n["refused"] + hung, all_sent, clients, 0.1)
    timed = np.maximum(0, n["canary"] - 20)
    passes &= accepts(n["slow"] + hung, timed + hung, np.full(len(stable), 0.05), 0.05)
    passes &= (timed >= 50) & (n["stable"] >= 50) & (state.age >= RUNG_SECONDS) & (stable <= 0.05)
    passes &= (state.phase != SHADOW) | (n["canary"] >= 200)
    at_the_end = np.flatnonzero(passes & (state.phase == LAST))
    passes[at_the_end] = is_near_on_the_whole_way(state.way[at_the_end])
    return passes


def advance(state: Rollouts, passes: Array, clock: int) -> None:
    """Move those that pass to their next phase; the counts of a phase start from zero."""
    after_shadow = first_rung(state, np.full(len(passes), float(BUDGET_SECONDS - clock)))
    following = np.where(state.phase == SHADOW, after_shadow, state.phase + 1)
    state.phase = np.where(passes, np.minimum(following, LAST), state.phase)
    for name in COUNTS:
        state.counts[name] = np.where(passes, 0, state.counts[name])
    state.age = np.where(passes, 0, state.age)
    state.lasts = np.where(passes, 1, state.lasts)
    state.trust = np.where(passes[:, None], 1 / 3, state.trust)
    pay(state, passes)


@dataclass
class Outcomes:
    """How each rollout ended: arrays [rollouts]."""

    outcome: Array
    seconds: Array
    canary: Array  # requests that the canary had answered by then

    def note(self, state: Rollouts, ended: Array, outcome: int, clock: int) -> None:
        numbers = state.number[ended]
        self.outcome[numbers], self.seconds[numbers] = outcome, clock
        self.canary[numbers] = state.counts["all_canary"][ended]


def simulate(world: World, size: int, seed: int) -> Outcomes:
    random = np.random.default_rng(seed)
    state = start(world, size, random)
    outcomes = Outcomes(np.full(size, INCONCLUSIVE), np.full(size, BUDGET_SECONDS), np.zeros(size))
    for clock in range(0 if world.has_shadow else 10, BUDGET_SECONDS):
        second = second_of(world, state, random)
        count(state, second)
        bet(state, of_bet(state, second))
        bet_on_rows(state, second, random)
        worse = is_worse(state)
        passes = ~worse & may_pass(state)
        bet(state, taken(state, passes))
        promoted = passes & (state.phase == LAST)
        outcomes.note(state, worse, ROLLED_BACK, clock + 1)
        outcomes.note(state, promoted, PROMOTED, clock + 1)
        advance(state, passes & ~promoted, clock)
        if (worse | promoted).any():
            state.keep(~(worse | promoted))
        if not len(state.number):
            break
    return outcomes


def interval(count: int, size: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a ratio (Clopper & Pearson 1934)."""
    exact = stats.binomtest(count, size).proportion_ci(0.95, method="exact")
    return float(exact.low), float(exact.high)


def report(world: World, outcomes: Outcomes) -> None:
    size = len(outcomes.outcome)
    goals = {ROLLED_BACK: world.goal, PROMOTED: 0.95 if world.is_good else 1 - world.goal}
    for outcome, word in ((ROLLED_BACK, "rolled back"), (PROMOTED, "promoted")):
        ended = outcomes.outcome == outcome
        low, high = interval(int(ended.sum()), size)
        more = {"low": low, "high": high, "rollouts": size}
        if ended.any():
            for unit in ("seconds", "canary"):
                values = getattr(outcomes, unit)[ended]
                more |= {
                    unit: float(np.median(values)),
                    f"{unit}_p95": float(np.quantile(values, 0.95)),
                }
        name = f"second judge: {world.name}, {word}"
        emit(name, float(ended.mean()), None, goals[outcome], "ratio", **more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--only", default="", help="worlds whose name holds this text")
    arguments = parser.parse_args()
    for world in WORLDS:
        if arguments.only in world.name:
            report(world, simulate(world, arguments.rollouts, arguments.seed))


if __name__ == "__main__":
    main()
