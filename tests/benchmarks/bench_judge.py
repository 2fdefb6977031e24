"""How often the judge is wrong over the whole way, and what its decisions cost, simulated.

Run as `python tests/benchmarks/bench_judge.py [--rollouts N] [--processes N] [--only TEXT]`. Every
rollout is the real `Canary.walk()` from shadow to last rung, or to its end, against a stand-in for
the serving agent under a simulated clock. Each draws its own rate of requests (4 to 1,000 a second,
even on a logarithmic scale, unless the scenario says otherwise), rows per request, latencies, and
how alike the rows of a request are. Rates are given with their exact 95 % intervals (Clopper &
Pearson 1934); limits are the goals.
"""

import argparse
import logging
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from support import emit

from components.deploy.canary.state import CanaryState
from components.deploy.canary.teller import Teller
from components.deploy.canary.walk import Canary
from components.deploy.deployment import Clock, Deployment
from components.runs.tracking import Tracker
from contract.layout import PipelineLayout
from contract.records.package import PackageManifest
from contract.records.traffic import Arm, ArmObservation, Observation, TrafficPlan
from contract.schema.pipeline import PipelineConfig

SEED = 20_261_129
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


@dataclass(frozen=True)
class Rollout:
    """How one rollout ended; `requests` are those that callers made to the canary."""

    ending: str
    requests: int
    shadow_requests: int
    seconds: float
    decided_by: str
    at: str


class World:
    """Clock, traffic and agent of one rollout."""

    def __init__(self, scenario: Scenario, random: np.random.Generator) -> None:
        self._scenario, self._random = scenario, random
        low, high = np.log(scenario.rates)
        self.rate = float(np.exp(random.uniform(low, high)))
        self._step = min(5.0, max(1.0, 20.0 / self.rate))
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
        passed = self._step if seconds == 0.25 else seconds
        self.seconds += passed
        self._flow(passed)

    # --- the agent ------------------------------------------------------------------------------

    def plan(self, _: str) -> TrafficPlan:
        return self._plan

    def propose(self, plan: TrafficPlan) -> TrafficPlan:
        self._plan = plan.model_copy(update={"generation": plan.generation + 1})
        return self._plan

    def observation(self, _: str) -> Observation:
        return Observation.model_construct(
            record_version=1,
            pipeline="digits",
            generation=self._plan.generation,
            observed_at=START,
            versions=tuple(self._counts[v].seen(v) for v in (STABLE, CANARY)),
            problems=(),
        )

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

    def seen(self, version: int) -> ArmObservation:
        cumulative = np.cumsum(self.timed).tolist()
        return ArmObservation.model_construct(
            record_version=1,
            version=version,
            is_ready=True,
            requests=self.requests,
            errors=self.errors,
            client_errors=self.client_errors,
            active=self.active,
            latency_bounds_ms=_BOUNDS,
            latency_counts=tuple(cumulative[:-1]),
            latency_total=cumulative[-1],
            compared=self.compared,
            disagreements=self.disagreements,
        )


_BOUNDS = tuple(float(bound) for bound in BOUNDS_MS)


def _buckets(median: float, spread: float) -> np.ndarray:
    """Return the chance of each bucket for log-normal latencies."""
    below = stats.norm.cdf(np.log(BOUNDS_MS / median) / spread)
    return np.diff(np.concatenate([[0.0], below, [1.0]]))


# --- rollouts -----------------------------------------------------------------------------------


def roll_out(scenario: Scenario, seed: int) -> Rollout:
    """Walk one canary to its end."""
    random = np.random.default_rng([SEED, seed])
    world = World(scenario, random)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        canary = Canary(_deployment(world, scenario, Path(folder)), _state(world))
        state = canary.walk()
    rungs = [step for step in state.ladder if step.weight_percent]
    last = state.ladder[-1]
    return Rollout(
        ending=state.ending,
        requests=sum(step.requests for step in rungs),
        shadow_requests=sum(step.requests for step in state.ladder)
        - sum(s.requests for s in rungs),
        seconds=world.seconds,
        decided_by=last.decided_by,
        at=last.name,
    )


def _state(world: World) -> CanaryState:
    return CanaryState(version=CANARY, champion=STABLE, plan=world.plan(""))


def _deployment(world: World, scenario: Scenario, folder: Path) -> Deployment:
    config = _config(tuple(scenario.deploy.items()))
    manifest = PackageManifest.model_construct(version=CANARY, pipeline="digits")
    return Deployment(
        client=world,  # type: ignore[arg-type]  # the agent's API, in this process
        layout=PipelineLayout(folder, "digits"),
        config=config,
        manifest=manifest,
        bless=None,
        author="run r2",
        output=folder,
        tracker=Tracker(),
        check_attempt=lambda: None,
        clock=world.clock(),
    )


def _config(deploy: tuple[tuple[str, Any], ...]) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "digits",
            "features": {"image": {"dtype": "float32", "shape": (64,)}},
            "heads": {"label": {"task": "binary_classification", "classes": ("a", "b")}},
            "ingest": {"source": {"kind": "sklearn", "dataset": "digits"}},
            "deploy": dict(deploy),
        }
    )


# --- figures ------------------------------------------------------------------------------------

BRISK = (50.0, FASTEST)
NO_SHADOW = {"shadow_requests": 0}
SCENARIOS = (
    Scenario("both 0 % errors", stable=0.0, canary=0.0),
    Scenario("both 1 % errors"),
    Scenario("both 1 % errors, in bursts of 20 on either arm", burst=20),
    Scenario("both 1 % of the time down at once", is_common=True),
    Scenario("both 2 % errors", stable=0.02, canary=0.02),
    Scenario("both 5 % errors", stable=0.05, canary=0.05),
    Scenario("both 5 % errors, 50 requests a second on", stable=0.05, canary=0.05, rates=BRISK),
    Scenario("both 20 % client errors", client_errors=0.2, canary_client_errors=0.2),
    Scenario("1 % to 5 % errors, no shadow", canary=0.05, rates=BRISK, deploy=NO_SHADOW),
    Scenario("1 % to 5 % errors", canary=0.05),
    Scenario("0.1 % to 1 % errors", stable=0.001, rates=BRISK),
    Scenario("1 % to 5 % errors from the 50 % rung on", canary=0.05, from_percent=50),
    Scenario("1 % to 5 % errors from the 95 % rung on", canary=0.05, from_percent=95),
    Scenario("four times slower", slower=4.0),
    Scenario("hanging on half its requests", hanging=0.5),
    Scenario("refusing every request", canary_client_errors=1.0),
    Scenario("failing every request, no shadow", canary=1.0, deploy=NO_SHADOW),
    Scenario(
        "half of all rows answered otherwise, limit 8 %",
        differing=0.5,
        deploy={"max_disagreement_ratio": 0.08},
    ),
    Scenario("no traffic", rates=(1e-9, 1e-8)),
    *(
        Scenario(f"both 1 % errors, {rate} requests a second", rates=(rate, rate))
        for rate in (4, 20, 100, 1000)
    ),
    *(
        Scenario(
            f"1 % to 5 % errors, {rate} requests a second, no shadow",
            canary=0.05,
            rates=(rate, rate),
            deploy=NO_SHADOW,
        )
        for rate in (4, 20, 100, 1000)
    ),
)
GOALS = {"0.1 % to 1 % errors": 0.95, "hanging": 0.999, "refusing": 0.999}


def interval(events: int, of: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a ratio.

    Source:
        Clopper & Pearson (1934), Biometrika 26(4), 404-413.
    """
    low = stats.beta.ppf(0.025, events, of - events + 1) if events else 0.0
    high = stats.beta.ppf(0.975, events + 1, of - events) if events < of else 1.0
    return float(low), float(high)


def emit_ratio(name: str, events: int, of: int, limit: float | None) -> None:
    """Print a ratio with its interval."""
    low, high = interval(events, of)
    emit(name, events / of, None, limit, "ratio", low=low, high=high, rollouts=of)


def report(scenario: Scenario, ended: Sequence[Rollout]) -> None:
    """Print what became of a scenario's rollouts."""
    name, of = f"judge: {scenario.name}", len(ended)
    rolled_back = [one for one in ended if one.ending == "rolled_back"]
    promoted = [one for one in ended if one.ending == "passed"]
    if scenario.name == "no traffic":
        emit_ratio(f"{name}, promoted", len(promoted), of, 0.0)
        emit_ratio(f"{name}, rolled back", len(rolled_back), of, 0.0)
        return
    if scenario.is_good:
        emit_ratio(f"{name}, rolled back", len(rolled_back), of, 0.01)
        emit_ratio(f"{name}, promoted in time", len(promoted), of, 0.95)
        figures("requests", f"{name}, canary requests until promoted", promoted)
        figures("seconds", f"{name}, seconds until promoted", promoted)
        return
    goal = next((goal for text, goal in GOALS.items() if text in scenario.name), 0.99)
    emit_ratio(f"{name}, not promoted", of - len(promoted), of, goal)
    emit_ratio(f"{name}, rolled back", len(rolled_back), of, goal)
    figures("requests", f"{name}, canary requests until rolled back", rolled_back)
    figures("shadow_requests", f"{name}, shadow requests until rolled back", rolled_back)
    figures("seconds", f"{name}, seconds until rolled back", rolled_back)


def figures(what: str, name: str, ended: Sequence[Rollout]) -> None:
    """Print median and 95th percentile of a figure."""
    if ended:
        found = [getattr(one, what) for one in ended]
        median, p95 = (float(np.percentile(found, q)) for q in (50, 95))
        emit(name, median, None, None, what.removeprefix("shadow_"), p95=p95)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="scenarios whose name holds this text")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes, initializer=_quietly) as pool:
        for scenario in SCENARIOS:
            if options.only in scenario.name:
                seeds = range(options.rollouts)
                ended = pool.map(partial(roll_out, scenario), seeds, chunksize=25)
                report(scenario, list(ended))


def _quietly() -> None:
    logging.getLogger("slipway").setLevel(logging.ERROR)
    # Nobody is killed here, so nobody reads the state again.
    CanaryState.write = lambda *_: None  # type: ignore[method-assign]
    for told in ("tell", "tell_end", "tell_stop", "tell_interrupted"):
        setattr(Teller, told, lambda *_: None)


if __name__ == "__main__":
    main()
