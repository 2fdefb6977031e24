"""The judge's error rates from ten thousand rollouts a scenario, side by side.

Run as `python tests/benchmarks/bench_judge_many.py [--rollouts N] [--followed N] [--only TEXT]`.
The scenarios, the shape of the traffic and the figures are those of `bench_judge.py`, which walks
each rollout with the real `Canary.walk()` and takes twenty times as long. Here the arithmetic of
the judge is done for all rollouts at once (`judge_of_many`). `--followed` rollouts of each scenario
are also judged by the judge itself, look by look, from the same counts: where it decides otherwise,
or an amount of capital differs by more than a millionth, the run ends. The first rung is chosen by
the judge's own function. Users who keep their arm are in `bench_judge.py` only.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from bench_judge import SCENARIOS, SEED, Rollout, _config, report
from judge_of_many import (
    CLIENT_ERRORS,
    COLUMNS,
    COMPARED,
    DISAGREEMENTS,
    ERRORS,
    HISTOGRAM,
    REQUESTS,
    Array,
    ManyAccounts,
    ManyTerms,
    Phases,
    after,
    may_pass,
    settle,
)
from simulated_agent import BOUNDS_MS, TIMEOUT_SECONDS, Scenario, _buckets, _shares

from components.deploy.judging.accounts import Accounts, Phase, stakes, with_stake
from components.deploy.judging.accounts import after as after_one
from components.deploy.judging.accounts import settled as settled_one
from components.deploy.judging.consents import Terms, rung_of
from components.deploy.judging.evidence import Counts
from components.deploy.judging.judge import judge
from components.deploy.judging.ladder import Traffic, outlook
from components.deploy.judging.whole_way import Rung
from contract.schema.serving import DeployConfig

MOST_COMPARED, LONGEST_STEP_SECONDS, KEPT_SECONDS = 200, 20.0, 64
_ROWS = (1, 8, 64)
_UNKNOWN_DISAGREEMENT = 0.5  # what a deployment without accuracies allows


class TrafficOfMany:
    """What all versions answer, step by step; arrays are [rollouts]."""

    def __init__(self, scenario: Scenario, size: int, random: np.random.Generator) -> None:
        self._how, self._random = scenario, random
        low, high = np.log(scenario.rates)
        self.rate = np.exp(random.uniform(low, high, size))
        self._rows = random.choice([1, 1, 8, 64], size)
        likeness = random.uniform(0.05, 0.9, size)
        median, spread = np.exp(random.uniform(1.6, 4.5, size)), random.uniform(0.2, 0.8, size)
        pairs = list(zip(median, spread, strict=True))
        self._quick = np.array([_buckets(m, s) for m, s in pairs])
        self._slow = np.array([_buckets(m * scenario.slower, s) for m, s in pairs])
        self._shares = [
            np.array([_shares(scenario.differing, one, rows) for one in likeness]) for rows in _ROWS
        ]
        self._hung = np.zeros((size, KEPT_SECONDS))
        self.active = np.zeros(size)

    def keep(self, mask: Array) -> None:
        for name in ("rate", "_rows", "_quick", "_slow", "_hung", "active"):
            setattr(self, name, getattr(self, name)[mask])
        self._shares = [shares[mask] for shares in self._shares]

    def step_seconds(self, percent: Array) -> Array:
        """Return how long each rollout's look takes; see `simulated_agent.World`."""
        answers = self.rate * np.where(percent > 0, percent / 100, 1.0)
        return np.clip(np.floor(1 / answers), 1.0, LONGEST_STEP_SECONDS)

    def flow(self, percent: Array, seconds: Array, now: Array) -> tuple[Array, Array]:
        """Return what was counted of (canary, stable) in a step; in the shadow percent is 0."""
        random, how = self._random, self._how
        requests = random.poisson(self.rate * seconds)
        is_shadow = percent == 0
        sent = np.where(is_shadow, requests, random.binomial(requests, percent / 100))
        is_down = np.zeros(len(sent))
        if how.is_common:
            is_down = random.random(len(sent)) > (1 - how.stable) ** seconds
            is_down = is_down / np.maximum(seconds, 1.0)  # a second of the step
        is_bad = percent >= how.from_percent
        stable = self._counted(
            np.where(is_shadow, requests, requests - sent), ~is_bad & False, is_down
        )
        canary = self._counted(sent, is_bad, is_down, is_shadow, (seconds, now))
        return canary, stable

    def _counted(
        self,
        requests: Array,
        is_bad: Array,
        is_down: Array,
        is_shadow: Array | None = None,
        time: tuple[Array, Array] | None = None,
    ) -> Array:
        how, random = self._how, self._random
        hanging = random.binomial(requests, np.where(is_bad, how.hanging, 0.0))
        answered = requests - hanging
        ratio = how.stable
        if time is not None:
            ratio = np.where(is_bad, how.canary, how.stable)
        errors = self._errors(answered, ratio, is_down)
        answered = np.maximum(answered, errors)
        refusing = np.where(is_bad, how.canary_client_errors, how.client_errors)
        refused = random.binomial(answered - errors, refusing)
        found = np.zeros((len(requests), COLUMNS))
        found[:, REQUESTS], found[:, ERRORS], found[:, CLIENT_ERRORS] = answered, errors, refused
        shape = np.where(np.asarray(is_bad)[:, None], self._slow, self._quick)
        found[:, HISTOGRAM:] = random.multinomial(answered, shape).cumsum(axis=1)
        if is_shadow is None or time is None:
            return found
        late = self._hang(hanging, *time) if how.hanging else 0
        found[:, REQUESTS] += late
        found[:, ERRORS] += late
        if how.canary_client_errors > how.client_errors:
            alone = 1 - how.client_errors / how.canary_client_errors
            refused_alone = random.binomial(refused, alone)
            found[:, ERRORS] += np.where(is_shadow & is_bad, refused_alone, 0)
        good = np.where(is_shadow, answered - errors - refused, 0)
        found[:, COMPARED] = np.minimum(good, MOST_COMPARED)
        found[:, DISAGREEMENTS] = self._differing(found[:, COMPARED].astype(int))
        return found

    def _errors(self, answered: Array, ratio: float | Array, is_down: Array) -> Array:
        if self._how.is_common:
            return self._random.binomial(answered, is_down)
        if self._how.burst > 1:
            burst = self._how.burst
            return burst * self._random.poisson(answered * ratio / burst)
        return self._random.binomial(answered, ratio)

    def _hang(self, hanging: Array, seconds: Array, now: Array) -> Array:
        """Let requests hang; return how many of those that hang time out now."""
        rows, late = np.arange(len(now)), np.zeros(len(now))
        for back in range(int(LONGEST_STEP_SECONDS)):
            due = now - TIMEOUT_SECONDS - back
            place = due.astype(int) % KEPT_SECONDS
            is_due = (back < seconds) & (due >= 0)
            late += np.where(is_due, self._hung[rows, place], 0.0)
            self._hung[rows[is_due], place[is_due]] = 0.0
        self._hung[rows, now.astype(int) % KEPT_SECONDS] += hanging
        self.active += hanging - late
        return late

    def _differing(self, compared: Array) -> Array:
        found = np.zeros(len(compared))
        for rows, shares in zip(_ROWS, self._shares, strict=True):
            mine = np.flatnonzero((self._rows == rows) & (compared > 0))
            if len(mine):
                drawn = self._random.multinomial(compared[mine], shares[mine])
                found[mine] = drawn @ (np.arange(rows + 1) / rows)
        return found


@dataclass
class Followed:
    """One rollout that the judge itself judges, too."""

    phase: Phase
    accounts: Accounts
    earlier: tuple[Rung, ...] = ()


class Many:
    """Rollouts side by side, from the shadow to their end."""

    def __init__(self, scenario: Scenario, size: int, followed: int) -> None:
        self._random = np.random.default_rng([SEED, len(scenario.name), size])
        self.config: DeployConfig = _config(tuple(scenario.deploy.items())).deploy
        self._traffic = TrafficOfMany(scenario, size, self._random)
        self._has_shadow = self.config.shadow_requests > 0
        lower, last = self.config.rungs_percent[:-1], self.config.rungs_percent[-1]
        self._ways = np.tile([*([0] if self._has_shadow else []), *lower, last], (size, 1))
        self.number, self.phase = np.arange(size), np.zeros(size, int)
        self.skipped, self.seconds = np.zeros(size, int), np.zeros(size)
        self.phases, self.accounts = Phases.begun(size), ManyAccounts(size)
        self._way = np.zeros((size, len(self._ways[0]), 4))
        self._requests = np.zeros((size, 2))  # of the canary by callers, and in the shadow
        self.ended: list[Rollout | None] = [None] * size
        self._followed = {n: Followed(Phase(), Accounts()) for n in range(min(followed, size))}
        if not self._has_shadow:
            self._survey()
            self._choose(np.arange(size))
        self._pay(np.arange(size))

    @property
    def percent(self) -> Array:
        return self._ways[np.arange(len(self.phase)), self.phase]

    def _survey(self) -> None:
        """Watch stable before the first rung, as `first_rung.survey` does."""
        config, size = self.config, len(self.phase)
        longest = min(60.0, config.min_seconds_per_step)
        counted = np.zeros((size, COLUMNS))
        open_ = np.ones(size, bool)
        while open_.any():
            part = np.where(open_, np.minimum(10.0, longest - self.seconds), 0.0)
            _, stable = self._traffic.flow(np.zeros(size), part, self.seconds)
            self.seconds += part
            counted += np.where(open_[:, None], stable, 0.0)
            open_ &= (counted[:, REQUESTS] < 200) & (self.seconds < longest)
        self.phases.stable[:] = counted
        self.phases.seconds = self.seconds.copy()

    def _choose(self, rows: Array) -> None:
        """Choose the first rung of some rollouts, by what was counted in the phase before."""
        first = int(self._has_shadow)
        for row in rows:
            seen = _counts(self.phases.stable[row], 0)
            seconds = float(self.phases.seconds[row])
            traffic = Traffic.of(seen, seconds, self.config.allowed_error_ratio)
            found = outlook(self.config, traffic, self.config.timeout_seconds - self.seconds[row])
            self.phase[row], self.skipped[row] = first + found.skipped, found.skipped
            if found.last_percent:
                self._ways[row, -1] = found.last_percent
        self.phases.begin(rows)

    def _pay(self, rows: Array) -> None:
        length = self._ways.shape[1]
        amounts = np.array(
            [
                stakes(length - int(self.skipped[row]), self._has_shadow)[
                    int(self.phase[row] - self.skipped[row])
                ]
                for row in rows
            ]
        )
        if len(rows):
            self.accounts.pay(rows, amounts)
        for row, amount in zip(rows, amounts, strict=True):
            if one := self._followed.get(int(self.number[row])):
                one.phase = Phase()
                one.accounts = with_stake(one.accounts, float(amount))

    def run(self) -> list[Rollout]:
        while len(self.number):
            self._look()
        return [one for one in self.ended if one is not None]

    def _look(self) -> None:
        percent = self.percent
        step = self._traffic.step_seconds(percent)
        self.seconds += step
        canary, stable = self._traffic.flow(percent, step, self.seconds)
        self._requests[:, 0] += np.where(percent > 0, canary[:, REQUESTS], 0)
        self._requests[:, 1] += np.where(percent == 0, canary[:, REQUESTS], 0)
        self.phases.grow(canary, stable, self.config.warm_up_requests)
        self.phases.active = self._traffic.active.copy()
        terms = self._terms(percent)
        after(step, self.phases, self.accounts, self.config, terms.limit)
        fails = self.accounts.proven(self.config.alpha)
        passes = ~fails & may_pass(self.phases, terms, self.config)
        self._follow((canary, stable), step, fails, passes)
        is_late = ~fails & ~passes & (self.seconds >= self.config.timeout_seconds)
        settle(self.phases, self.accounts, self.config, terms.limit, passes)
        is_last = self.phase == self._ways.shape[1] - 1
        self._end(fails, "rolled_back")
        self._end(is_late, "inconclusive")
        self._end(passes & is_last, "passed")
        self._next(np.flatnonzero(passes & ~is_last))
        over = fails | is_late | (passes & is_last)
        if over.any():
            self._keep(~over)

    def _terms(self, percent: Array) -> ManyTerms:
        is_shadow = percent == 0
        limit = self.config.max_disagreement_ratio
        limit = _UNKNOWN_DISAGREEMENT if limit is None else limit
        way = self._way.copy()
        rows = np.arange(len(percent))
        way[rows, self.phase] = np.stack(
            [one[:, column] for one in (self.phases.canary, self.phases.stable)
             for column in (ERRORS, REQUESTS)],
            axis=1,
        )  # fmt: skip
        if self._has_shadow:
            way[:, 0] = 0
        is_last = self.phase == self._ways.shape[1] - 1
        return ManyTerms(is_shadow, np.where(is_shadow, limit, np.nan), is_last, way)

    def _end(self, where: Array, ending: str) -> None:
        for row in np.flatnonzero(where):
            percent = int(self.percent[row])
            self.ended[self.number[row]] = Rollout(
                ending=ending,
                requests=int(self._requests[row, 0]),
                shadow_requests=int(self._requests[row, 1]),
                seconds=float(self.seconds[row]),
                decided_by="",
                at=f"{percent} %" if percent else "shadow",
            )
            self._followed.pop(int(self.number[row]), None)

    def _next(self, rows: Array) -> None:
        if not len(rows):
            return
        counted = (self.phases.canary[rows], self.phases.stable[rows])
        for place, (one, column) in enumerate(
            (one, column) for one in counted for column in (ERRORS, REQUESTS)
        ):
            self._way[rows, self.phase[rows], place] = one[:, column]
        if self._has_shadow:
            self._way[rows, 0] = 0
            self._choose(rows[self.phase[rows] == 0])
            rows_up = rows[self.phases.seconds[rows] > 0]
        else:
            rows_up = rows
        self.phase[rows_up] += 1
        self.phases.begin(rows_up)
        self._pay(rows)

    def _keep(self, mask: Array) -> None:
        self._traffic.keep(mask)
        for name in ("number", "phase", "skipped", "seconds", "_ways", "_way", "_requests"):
            setattr(self, name, getattr(self, name)[mask])
        for name, value in vars(self.phases).items():
            setattr(self.phases, name, value[mask])
        for part in vars(self.accounts).values():
            part |= {name: value[mask] for name, value in part.items()}

    # --- the judge itself, beside it ------------------------------------------------------------

    def _follow(self, grown: tuple[Array, Array], step: Array, fails: Array, passes: Array) -> None:
        for number, one in self._followed.items():
            row = int(np.searchsorted(self.number, number))
            active = int(self._traffic.active[row])
            canary, stable = _counts(grown[0][row], active), _counts(grown[1][row], 0)
            percent, config = int(self.percent[row]), self.config
            limit = config.max_disagreement_ratio
            limit = _UNKNOWN_DISAGREEMENT if limit is None else limit
            is_last = self.phase[row] == self._ways.shape[1] - 1
            earlier = one.earlier if is_last else None
            terms = Terms(config, percent == 0, limit if percent == 0 else None, earlier)
            one.phase = one.phase.grown(canary, stable, config.warm_up_requests)
            one.phase, one.accounts = after_one(
                float(step[row]), one.phase, one.accounts, config, terms.disagreement_limit
            )
            said = judge(one.phase, one.accounts, terms).decision
            ours = "fail" if fails[row] else "pass" if passes[row] else "continue"
            capital = [self.accounts.capital[name][row] for name in one.accounts.capital]
            theirs = [np.array(found) for found in one.accounts.capital.values()]
            if said != ours or not np.allclose(capital, theirs, rtol=1e-6, atol=1e-9):
                sys.exit(f"rollout {number} at {percent} %: judge '{said}', many '{ours}'")
            if said == "pass":
                one.accounts = settled_one(
                    one.accounts, one.phase, config, terms.disagreement_limit
                )
                if percent:
                    one.earlier = (*one.earlier, rung_of(one.phase.canary, one.phase.stable))


def _counts(row: Array, active: int) -> Counts:
    timed = tuple(int(n) for n in row[HISTOGRAM:])
    return Counts(
        requests=int(row[REQUESTS]),
        errors=int(row[ERRORS]),
        client_errors=int(row[CLIENT_ERRORS]),
        active=active,
        latency_bounds_ms=tuple(float(bound) for bound in BOUNDS_MS),
        latency_counts=timed[:-1],
        latency_total=timed[-1],
        compared=int(row[COMPARED]),
        disagreements=float(row[DISAGREEMENTS]),
    )


def scenarios(only: str) -> Iterator[Scenario]:
    """Yield the scenarios of which the name holds a text; users are simulated one by one only."""
    yield from (one for one in SCENARIOS if only in one.name and not one.users)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=10_000)
    parser.add_argument("--followed", type=int, default=10)
    parser.add_argument("--only", default="", help="scenarios whose name holds this text")
    parser.add_argument("--exact", default="", help="the scenario of this name, and no other")
    options = parser.parse_args()
    for scenario in scenarios(options.only):
        if options.exact in ("", scenario.name):
            ended = Many(scenario, options.rollouts, options.followed).run()
            report(scenario, ended)


if __name__ == "__main__":
    main()
