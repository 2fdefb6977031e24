"""A stand-in for the serving agent, its clock and its traffic, in this process."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from scipy import stats

from components.deploy.deployment import Clock
from contract.records.traffic import Arm, TrafficPlan

START = datetime(2026, 1, 1, tzinfo=UTC)
BOUNDS_MS = np.array([1, 2, 3, 5, 7, 10, 14, 20, 30, 40, 60, 85, 120, 170, 250, 400, 600, 1000])
TIMEOUT_SECONDS = 30.0  # Envoy's: what hangs becomes an error then
STABLE, CANARY = 1, 2
SLOWEST, FASTEST = 4.0, 1000.0


@dataclass(frozen=True)
class Scenario:
    """How both versions behave. Ratios are in 0..1; `from_percent` is where the canary turns bad.

    `burst` is how many errors come at once, on one arm; `is_common` sends them to both, by their
    share, in seconds in which all requests fail.
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
    """Clock, traffic and agent of one rollout."""

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
        passed = 1.0 if seconds == 0.25 else seconds
        self.seconds += passed
        self._flow(passed)

    # --- the agent ------------------------------------------------------------------------------

    def plan(self, _: str) -> TrafficPlan:
        return self._plan

    def propose(self, plan: TrafficPlan) -> TrafficPlan:
        self._plan = plan.model_copy(update={"generation": plan.generation + 1})
        return self._plan

    def observation(self, _: str) -> Seen:
        return Seen(self._plan.generation, *(self._counts[v].seen(v) for v in (STABLE, CANARY)))

    # --- the traffic ----------------------------------------------------------------------------

    def _flow(self, seconds: float) -> None:
        requests = int(self._random.poisson(self.rate * seconds))
        canary = self._plan.canary
        percent = canary.weight_percent if canary else 0
        to_canary = int(self._random.binomial(requests, percent / 100)) if percent else 0
        is_down = self._scenario.is_common and self._random.random() < (
            1 - (1 - self._scenario.stable) ** seconds
        )
        self._answer(STABLE, requests - to_canary, is_down, percent)
        if self._plan.shadow is not None:
            answered = self._answer(CANARY, requests, is_down, percent)
            self._compare(answered)
        elif percent:
            self._answer(CANARY, to_canary, is_down, percent)

    def _answer(self, version: int, requests: int, is_down: bool, percent: int) -> int:
        """Count the answers of a version; return how many were good."""
        how, counts, random = self._scenario, self._counts[version], self._random
        is_bad = version == CANARY and percent >= how.from_percent
        ratio = how.canary if is_bad else how.stable
        refusing = how.canary_client_errors if is_bad else how.client_errors
        hanging = int(random.binomial(requests, how.hanging)) if is_bad and how.hanging else 0
        late = counts.hang(self.seconds, hanging)
        answered = requests - hanging
        if how.is_common:
            errors = answered if is_down else 0
        elif how.burst > 1:
            errors = how.burst * int(random.poisson(answered * ratio / how.burst))
            answered = max(answered, errors)
        else:
            errors = int(random.binomial(answered, ratio)) if ratio else 0
        refused = int(random.binomial(answered - errors, refusing)) if refusing else 0
        if is_bad and self._plan.shadow and refusing > how.client_errors:
            alone = 1 - how.client_errors / refusing  # what stable refuses, too, is the caller's
            counts.refused_alone += int(random.binomial(refused, alone))
        slow = self._latency[version] if is_bad else self._latency[STABLE]
        counts.add(answered + late, errors + late, refused, random.multinomial(answered, slow))
        return answered - errors - refused

    def _compare(self, requests: int) -> None:
        """Count the share of rows that differ: the rows of one request are alike."""
        if not requests or not self._scenario.differing:
            self._counts[CANARY].compared += requests
            return
        alike = (1 - self._likeness) / self._likeness  # a beta-binomial's concentration
        shape = (self._scenario.differing * alike, (1 - self._scenario.differing) * alike)
        sample = self._random.beta(*shape, min(requests, 200))
        shares = self._random.binomial(self._rows, sample) / self._rows
        self._counts[CANARY].compared += len(shares)
        self._counts[CANARY].disagreements += float(shares.sum())


@dataclass
class _Counters:
    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    compared: int = 0
    disagreements: float = 0.0
    refused_alone: int = 0
    timed: np.ndarray = field(default_factory=lambda: np.zeros(len(BOUNDS_MS) + 1, np.int64))
    waiting: deque[tuple[float, int]] = field(default_factory=deque)
    active: int = 0

    def add(self, requests: int, errors: int, refused: int, timed: np.ndarray) -> None:
        self.requests += requests
        self.errors += errors
        self.client_errors += refused
        self.timed += timed

    def hang(self, now: float, requests: int) -> int:
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
        timed = self.timed.cumsum().tolist()
        return SeenArm(
            *(version, self.requests, self.errors, self.client_errors, self.active),
            *(tuple(timed[:-1]), timed[-1]),
            *(self.compared, self.disagreements, self.refused_alone),
        )


def _buckets(median: float, spread: float) -> np.ndarray:
    """Return the chance of each bucket for log-normal latencies."""
    below = stats.norm.cdf(np.log(BOUNDS_MS / median) / spread)
    return np.diff(np.concatenate([[0.0], below, [1.0]]))
