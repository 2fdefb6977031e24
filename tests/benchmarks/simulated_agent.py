"""A stand-in for the serving agent, its clock and its traffic, in this process."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import add
from typing import Any

import numpy as np
from scipy import special

from components.deploy.deployment import Clock
from contract.records.traffic import Arm, TrafficPlan

START = datetime(2026, 1, 1, tzinfo=UTC)
BOUNDS_MS = np.array([1, 2, 3, 5, 7, 10, 14, 20, 30, 40, 60, 85, 120, 170, 250, 400, 600, 1000])
TIMEOUT_SECONDS = 30.0  # Envoy's: what hangs becomes an error then
STABLE, CANARY = 1, 2
SLOWEST, FASTEST = 4.0, 1000.0
_AHEAD = 30  # steps of time whose traffic is drawn at once
_LONGEST_STEP_SECONDS = 20.0
_MOST_COMPARED = 200  # requests in a step, of which the rows are compared


@dataclass(frozen=True)
class Scenario:
    """How both versions behave. Ratios are in 0..1; `from_percent` is where the canary turns bad.

    `burst` is how many errors come at once, on one arm; `is_common` sends them to both, by their
    share, in seconds in which all requests fail. `users` keep their arm (`deploy.sticky_header`):
    a share of them, `troubled_users`, has all errors of both versions, evenly; 0: no such users.
    """

    name: str
    stable: float = 0.01
    canary: float = 0.01
    client_errors: float = 0.02
    canary_client_errors: float = 0.02
    burst: int = 1
    is_common: bool = False
    slower: float = 1.0
    hanging: float = 0.0
    differing: float = 0.02
    from_percent: int = 0
    users: int = 0
    troubled_users: float = 1.0
    rates: tuple[float, float] = (SLOWEST, FASTEST)
    deploy: dict[str, Any] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether the canary is as good as stable."""
        same = self.stable == self.canary and self.client_errors == self.canary_client_errors
        return same and self.slower == 1.0 and not self.hanging and self.differing < 0.1


@dataclass(slots=True)
class SeenArm:
    """What the judge reads of an ArmObservation; making that record costs ten times as much."""

    version: int
    requests: int
    errors: int
    client_errors: int
    active: int
    latency_counts: tuple[int, ...]
    latency_total: int
    compared: int
    disagreements: float
    refused_alone: int
    latency_bounds_ms: tuple[float, ...] = tuple(float(bound) for bound in BOUNDS_MS)
    is_ready: bool = True
    server: str = ""


@dataclass(slots=True)
class Seen:
    """What the judge reads of an Observation."""

    generation: int
    stable: SeenArm
    canary: SeenArm
    problems: tuple[str, ...] = ()

    def of(self, version: int) -> SeenArm:
        return self.canary if version == CANARY else self.stable


class World:
    """Clock, traffic and agent of one rollout.

    Time goes by in steps: a second, or where the canary has less traffic than a request a second,
    as long as it needs for one. So the judge looks at least once for each second or answer. Some
    steps are drawn together, which costs a tenth; a new plan, or a pause of another length, draws
    them again.
    """

    def __init__(self, scenario: Scenario, random: np.random.Generator) -> None:
        self._scenario, self._random = scenario, random
        low, high = np.log(scenario.rates)
        self.rate = float(np.exp(random.uniform(low, high)))
        self._rows = int(random.choice([1, 1, 8, 64]))
        self._likeness = float(random.uniform(0.05, 0.9))
        median, spread = float(np.exp(random.uniform(1.6, 4.5))), float(random.uniform(0.2, 0.8))
        self._latency = {v: _buckets(median * slow, spread) for v, slow in self._slowness()}
        self.seconds = 0.0
        arms = (Arm(name="stable", version=STABLE, weight_percent=100),)
        self._plan = TrafficPlan(pipeline="digits", generation=1, arms=arms, author="run r1")
        self._counts = {version: _Counters() for version in (STABLE, CANARY)}
        self._ahead: Iterator[tuple[_Answers, _Answers | None]] = iter(())
        self._step_seconds, self._look_seconds = 0.0, 1.0
        self._shares = _shares(scenario.differing, self._likeness, self._rows)
        self._hashes = random.uniform(0, 100, scenario.users)
        troubled = random.random(scenario.users) < scenario.troubled_users
        self._trouble = troubled / scenario.troubled_users  # of each user, in the mean 1

    def _slowness(self) -> Iterator[tuple[int, float]]:
        yield STABLE, 1.0
        yield CANARY, self._scenario.slower

    # --- the clock ------------------------------------------------------------------------------

    def clock(self) -> Clock:
        """Return the clock; a look every simulated second is seldom enough."""
        return Clock(
            now=lambda: START + timedelta(seconds=self.seconds),
            monotonic=lambda: self.seconds,
            sleep=self._sleep,
        )

    def _sleep(self, seconds: float) -> None:
        passed = self._look_seconds if seconds == 0.25 else seconds
        self.seconds += passed
        self._flow(passed)

    def _seconds_of_look(self) -> float:
        canary = self._plan.canary
        answers = self.rate * (canary.weight_percent / 100 if canary else 1.0)
        return min(max(1.0, float(int(1 / answers))), _LONGEST_STEP_SECONDS) if answers else 1.0

    # --- the agent ------------------------------------------------------------------------------

    def plan(self, _: str) -> TrafficPlan:
        return self._plan

    def propose(self, plan: TrafficPlan) -> TrafficPlan:
        self._plan = plan.model_copy(update={"generation": plan.generation + 1})
        self._ahead, self._look_seconds = iter(()), self._seconds_of_look()
        return self._plan

    def observation(self, _: str) -> Seen:
        stable, canary = (self._counts[version].seen(version) for version in (STABLE, CANARY))
        return Seen(self._plan.generation, stable, canary)

    # --- the traffic ----------------------------------------------------------------------------

    def _flow(self, seconds: float) -> None:
        answers = next(self._ahead, None) if seconds == self._step_seconds else None
        if answers is None:
            self._ahead, self._step_seconds = self._drawn(seconds), seconds
            answers = next(self._ahead)
        for version, answered in zip((STABLE, CANARY), answers, strict=True):
            if answered is not None:
                self._counts[version].add(answered, self.seconds)

    def _drawn(self, seconds: float) -> Iterator[tuple["_Answers", "_Answers | None"]]:
        """Draw the traffic of the next steps: for each, what (stable, canary) answers."""
        random, canary = self._random, self._plan.canary
        requests = random.poisson(self.rate * seconds, _AHEAD)
        percent = canary.weight_percent if canary else 0
        to_canary = random.binomial(requests, self._share_of_canary(percent))
        is_down = np.zeros(_AHEAD)
        if self._scenario.is_common:
            # a second of the step
            is_down = (random.random(_AHEAD) > (1 - self._scenario.stable) ** seconds) / seconds
        stable = self._answers(STABLE, requests - to_canary, is_down, percent)
        if self._plan.shadow is None and not percent:
            return zip(stable, [None] * _AHEAD, strict=True)
        sent = to_canary if percent else requests
        return zip(stable, self._answers(CANARY, sent, is_down, percent), strict=True)

    def _share_of_canary(self, percent: int) -> float:
        if not self._scenario.users:
            return percent / 100
        return float((self._hashes < percent).mean())

    def _ratio(self, version: int, ratio: float, percent: int) -> float:
        """Return a version's ratio of errors among the users that it has."""
        if not self._scenario.users:
            return ratio
        is_own = (self._hashes < percent) == (version == CANARY)
        trouble = self._trouble if self._plan.shadow is not None else self._trouble[is_own]
        return min(1.0, ratio * float(trouble.mean())) if len(trouble) else 0.0

    def _answers(
        self, version: int, requests: np.ndarray, is_down: np.ndarray, percent: int
    ) -> list["_Answers"]:
        """Draw what a version answers in each of some steps."""
        how, random = self._scenario, self._random
        is_bad = version == CANARY and percent >= how.from_percent
        refusing = how.canary_client_errors if is_bad else how.client_errors
        hanging = random.binomial(requests, how.hanging if is_bad else 0.0)
        answered = requests - hanging
        ratio = self._ratio(version, how.canary if is_bad else how.stable, percent)
        errors = self._errors(answered, ratio, is_down)
        answered = np.maximum(answered, errors)
        refused = random.binomial(answered - errors, refusing)
        is_shadow = version == CANARY and self._plan.shadow is not None
        alone = np.zeros(_AHEAD, int)
        if is_shadow and is_bad and refusing > how.client_errors:
            # what stable refuses, too, is the caller's
            alone = random.binomial(refused, 1 - how.client_errors / refusing)
        slow = self._latency[version] if is_bad else self._latency[STABLE]
        compared = np.minimum(answered - errors - refused, _MOST_COMPARED * is_shadow)
        figures = (
            *(answered, errors, refused, hanging, alone, compared),
            *(self._differing(compared), random.multinomial(answered, slow).cumsum(axis=1)),
        )
        return [_Answers(*one) for one in zip(*(f.tolist() for f in figures), strict=True)]

    def _errors(self, answered: np.ndarray, ratio: float, is_down: np.ndarray) -> np.ndarray:
        how, random = self._scenario, self._random
        if how.is_common:
            return random.binomial(answered, np.minimum(is_down, 1.0))
        if how.burst > 1:
            return how.burst * random.poisson(answered * ratio / how.burst)
        return random.binomial(answered, ratio)

    def _differing(self, compared: np.ndarray) -> np.ndarray:
        """Draw the sum of the shares of differing rows over the requests of each step."""
        if not compared.any():
            return np.zeros(len(compared))
        shares = np.arange(self._rows + 1) / self._rows
        found: np.ndarray = self._random.multinomial(compared, self._shares) @ shares
        return found


@dataclass(slots=True)
class _Answers:
    """What a version answers in one step; `timed` is cumulative over the buckets."""

    requests: int
    errors: int
    refused: int
    hanging: int
    refused_alone: int
    compared: int
    disagreements: float
    timed: list[int]


@dataclass
class _Counters:
    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    compared: int = 0
    disagreements: float = 0.0
    refused_alone: int = 0
    timed: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    waiting: deque[tuple[float, int]] = field(default_factory=deque)
    active: int = 0

    def add(self, answers: _Answers, now: float) -> None:
        """Count the answers of a step; what has hung for long enough becomes an error."""
        late = self._hang(now, answers.hanging) if answers.hanging or self.waiting else 0
        self.requests += answers.requests + late
        self.errors += answers.errors + late
        self.client_errors += answers.refused
        self.refused_alone += answers.refused_alone
        self.compared += answers.compared
        self.disagreements += answers.disagreements
        self.timed = list(map(add, self.timed, answers.timed))

    def _hang(self, now: float, requests: int) -> int:
        """Let requests hang; return how many of those that hang time out now."""
        if requests:
            self.waiting.append((now, requests))
            self.active += requests
        over = 0
        while self.waiting and self.waiting[0][0] <= now - TIMEOUT_SECONDS:
            over += self.waiting.popleft()[1]
        self.active -= over
        return over

    def seen(self, version: int) -> SeenArm:
        return SeenArm(
            version,
            self.requests,
            self.errors,
            self.client_errors,
            self.active,
            latency_counts=tuple(self.timed[:-1]),
            latency_total=self.timed[-1],
            compared=self.compared,
            disagreements=self.disagreements,
            refused_alone=self.refused_alone,
        )


def _buckets(median: float, spread: float) -> np.ndarray:
    """Return the chance of each bucket for log-normal latencies."""
    below = special.ndtr(np.log(BOUNDS_MS / median) / spread)
    return np.diff(np.concatenate([[0.0], below, [1.0]]))


def _shares(differing: float, likeness: float, rows: int) -> np.ndarray:
    """Return the chance that 0, 1, ... of a request's rows differ: a beta-binomial.

    `likeness`, in 0..1, is the correlation of two rows' differences.
    """
    if differing in (0.0, 1.0):
        return np.eye(rows + 1)[int(differing) * rows]
    concentration = (1 - likeness) / likeness
    often, seldom = differing * concentration, (1 - differing) * concentration
    count = np.arange(rows + 1)
    ways = -special.betaln(rows - count + 1, count + 1) - np.log(rows + 1)
    chance = special.betaln(count + often, rows - count + seldom) - special.betaln(often, seldom)
    found = np.exp(ways + chance)
    return found / found.sum()
