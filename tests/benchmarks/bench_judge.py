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
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel
from scipy import stats
from simulated_agent import CANARY, FASTEST, STABLE, Scenario, World
from support import emit

from components.deploy.canary.state import CanaryState
from components.deploy.canary.teller import Teller
from components.deploy.canary.walk import Canary
from components.deploy.deployment import Deployment
from components.runs.tracking import Tracker
from contract.layout import PipelineLayout
from contract.records.package import PackageManifest
from contract.records.record import Record
from contract.schema.pipeline import PipelineConfig

SEED = 20_261_129


@dataclass(frozen=True)
class Rollout:
    """How one rollout ended; `requests` are those that callers made to the canary."""

    ending: str
    requests: int
    shadow_requests: int
    seconds: float
    decided_by: str
    at: str


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
    manifest = PackageManifest.model_construct(  # type: ignore[call-arg]  # the rest is not read
        version=CANARY, pipeline="digits"
    )
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


@cache
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
STICKY = {"sticky_header": "x-user-id"}
TENTH = {"allowed_error_ratio": 0.001, "refused_error_ratio": 0.01}
SCENARIOS = (
    Scenario("both 0 % errors", stable=0.0, canary=0.0),
    Scenario("both 1 % errors"),
    Scenario("both 1 % errors, in bursts of 20 on either arm", burst=20),
    Scenario("both 1 % of the time down at once", is_common=True),
    Scenario("both 2 % errors", stable=0.02, canary=0.02),
    Scenario("both 5 % errors", stable=0.05, canary=0.05),
    Scenario("both 5 % errors, 50 requests a second on", stable=0.05, canary=0.05, rates=BRISK),
    Scenario("both 5 % errors, 4 requests a second", stable=0.05, canary=0.05, rates=(4, 4)),
    *(
        Scenario(
            f"both 1 % errors, by {part:.0%} of 400 users that keep their arm, not counted",
            users=400,
            troubled_users=part,
            deploy=STICKY,
        )
        for part in (1.0, 0.1, 0.02)
    ),
    *(
        Scenario(
            f"both 1 % errors, by {part:.0%} of {users:,} users that keep their arm{words}",
            users=users,
            troubled_users=part,
            deploy=STICKY | {"sticky_users": users} | more,
        )
        for users in (400, 4000)
        for part in (1.0, 0.1, 0.02)
        for words, more in (
            ("", {}),
            (", from the 25 % rung on", {"ladder_percent": (25, 50, 100)}),
        )
    ),
    *(
        Scenario(
            f"1 % to {canary:.0%} errors, {users:,} users that keep their arm, no shadow",
            canary=canary,
            users=users,
            deploy=STICKY | NO_SHADOW | {"sticky_users": users},
        )
        for canary in (0.05, 0.2)
        for users in (400, 4000)
    ),
    Scenario("both 0.1 % errors", stable=0.001, canary=0.001),
    Scenario("both 0.5 % errors", stable=0.005, canary=0.005),
    Scenario("both 20 % client errors", client_errors=0.2, canary_client_errors=0.2),
    Scenario("1 % to 5 % errors, no shadow", canary=0.05, deploy=NO_SHADOW),
    Scenario("1 % to 5 % errors", canary=0.05),
    Scenario("0.1 % to 1 % errors", stable=0.001),
    Scenario("0.1 % to 1 % errors, no shadow", stable=0.001, deploy=NO_SHADOW),
    Scenario("0.1 % to 1 % errors, 50 requests a second on", stable=0.001, rates=BRISK),
    *(
        Scenario(f"0.1 % to 1 % errors, {rate} requests a second", stable=0.001, rates=(rate, rate))
        for rate in (4, 20, 100, 1000)
    ),
    Scenario("0.1 % to 1 % errors, limits of 0.1 % and 1 %", stable=0.001, deploy=TENTH),
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
    parser.add_argument("--exact", default="", help="the scenario of this name, and no other")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes, initializer=_quietly) as pool:
        for scenario in SCENARIOS:
            if options.only in scenario.name and options.exact in ("", scenario.name):
                seeds = range(options.rollouts)
                ended = pool.map(partial(roll_out, scenario), seeds, chunksize=25)
                report(scenario, list(ended))


def _quietly() -> None:
    logging.getLogger("slipway").setLevel(logging.ERROR)
    # Nobody is killed here, so nobody reads the state again.
    CanaryState.write = lambda *_: None  # type: ignore[method-assign]
    for told in ("tell", "tell_end", "tell_stop", "tell_interrupted"):
        setattr(Teller, told, lambda *_: None)
    for words in ("_moment", "_say_progress", "_note"):
        setattr(Canary, words, lambda *_: None)
    Record.model_copy = _copied  # type: ignore[assignment]  # pydantic's own takes ten times as long


_SET_VALUES = BaseModel.__dict__["__dict__"].__set__
_SET_FIELDS, _SET_EXTRA, _SET_PRIVATE = (
    BaseModel.__dict__[f"__pydantic_{name}__"].__set__
    for name in ("fields_set", "extra", "private")
)


def _copied(record: Any, *, update: dict[str, Any]) -> Any:
    copy = record.__class__.__new__(record.__class__)
    _SET_VALUES(copy, {**record.__dict__, **update})
    _SET_FIELDS(copy, record.__pydantic_fields_set__)
    _SET_EXTRA(copy, None)
    _SET_PRIVATE(copy, None)
    return copy


if __name__ == "__main__":
    main()
