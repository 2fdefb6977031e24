"""Trials under load, with the controller, the agent, Envoy or a server killed at any moment.

Run as `python tests/benchmarks/bench_kills.py [--kills N] [--seed N] [--minutes N] [--pause N]`.
Supervisord, Envoy and the agent are real, the servers are the integration tests' stand-ins, the
controller is `Canary.walk()` in a process of its own, forked from a server of forks that has
imported everything, so that a kill costs little. What is killed and when follows from the seed: the
controller most often, then the agent. After each kill three things are checked:

* the plan in force is one that somebody decided: by its author, its weights are a rung of the
  ladder, a shadow or all on stable, and generations only rise; the agent itself may only give
  stable all traffic, where a trial's controller is silent for too long;
* counts are not lost: what the controller has counted in a phase never falls;
* nothing is promoted: the champion stays what it was, and a trial only passes with its last rung.

Every fault is printed in words, each once. What is as designed is counted by kind: a controller
gives up where no agent answers for 20 s, and a retry continues its trial; the agent withdraws the
trial of a silent controller; a phase begins again where its server died or its trial was withdrawn.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "integration" / "agent"), str(ROOT / "tests")]

from callers import Callers  # noqa: E402  # beside the tests
from support import emit  # noqa: E402

from components.deploy.canary.state import STATE_FILE, CanaryState  # noqa: E402
from components.deploy.canary.trial import InterruptedTrialError  # noqa: E402
from components.deploy.canary.walk import Canary  # noqa: E402
from components.deploy.deployment import Deployment  # noqa: E402
from components.runs.agent_client import AgentClient, PlanConflictError  # noqa: E402
from components.runs.tracking import Tracker  # noqa: E402
from contract.errors import ServiceUnavailableError, SlipwayError  # noqa: E402
from contract.layout import PipelineLayout  # noqa: E402
from contract.records.package import PackageManifest  # noqa: E402
from contract.records.traffic import TrafficPlan  # noqa: E402
from contract.schema.pipeline import PipelineConfig  # noqa: E402
from serving.agent.leases import AGENT  # noqa: E402

FORKS = multiprocessing.get_context("forkserver")
OFTEN = {"controller": 3.0, "agent": 2.0}  # all others 1
RUNGS = (5, 50, 95)
RECOVERY_SECONDS = 60.0
GOES_ON = (0, -signal.SIGKILL, os.EX_TEMPFAIL)  # of a controller: the trial, or a new one
# supervisord gives a program up that ends again and again within seconds; a server's trial ends so
PEACE_SECONDS, SERVER_PEACE = {"agent": 1.0, "envoy": 2.0}, 15.0
CONFIG = {
    "name": "digits",
    "features": {"x": {"dtype": "float32"}},
    "heads": {"digit": {"task": "multiclass_classification", "classes": ("0", "1")}},
    "ingest": {"source": {"kind": "csv", "files": ("x.csv",)}},
    "deploy": {
        "ladder_percent": (5, 50, 100),
        "ladder": "all",
        "shadow_requests": 50,
        "min_seconds_per_step": 2.0,
        "timeout_seconds": 120.0,
    },
}


def run_controller(log: Path, root: Path, output: Path, url: str, author: str) -> None:
    """Be a controller, with a log on disk."""
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), sys.stderr.fileno())
    try:
        control(root, output, url, author)
    except InterruptedTrialError as interrupted:
        sys.exit(f"{author}: {interrupted}")
    except ServiceUnavailableError:  # no agent for 20 s: a retry continues the trial
        sys.exit(os.EX_TEMPFAIL)


def control(root: Path, output: Path, url: str, author: str) -> None:
    """Walk version 2 as a controller does, from wherever the one before was killed."""
    layout = PipelineLayout(root, "digits")
    with AgentClient(url, "secret") as client:
        deployment = Deployment(
            client=client,
            layout=layout,
            config=PipelineConfig.model_validate(CONFIG),
            manifest=PackageManifest.read(layout.package_manifest(2)),
            bless=None,
            author=author,
            output=output,
            tracker=Tracker(),
            check_attempt=lambda: None,
        )
        try:
            state = CanaryState.read(output / STATE_FILE)
        except SlipwayError:
            state = CanaryState(version=2, champion=1, plan=client.plan("digits"))
        Canary(deployment, state).walk()


@dataclass
class Trials:
    """Trials of version 2, one after another, and what was wrong with them."""

    stack: Any
    folder: Path
    number: int = 0
    process: ForkServerProcess | None = None
    endings: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, None] = field(default_factory=dict)  # what was seen, each once, in order
    as_designed: dict[str, set[str]] = field(default_factory=dict)  # by kind, each once
    generation: int = 0
    counted: tuple[int, int, int, int] = (0, -1, 0, 0)  # trial, phase, restarts, canary requests
    killed_at: dict[str, float] = field(default_factory=dict)

    @property
    def author(self) -> str:
        return f"run t{self.number}"

    @property
    def output(self) -> Path:
        return self.folder / f"trial-{self.number}"

    def fault(self, words: str) -> None:
        self.wrong[words] = None

    def note(self, kind: str, which: object) -> None:
        self.as_designed.setdefault(kind, set()).add(str(which))

    def go_on(self) -> None:
        """See that a controller runs: the killed trial's, or that of a new one."""
        if self.process is not None and self.process.is_alive():
            return
        state = self.state()
        if state is not None and state.ending and self.process is not None:
            if self.process.exitcode == 0:
                self._end(state)
        elif self.process is not None and self.process.exitcode not in GOES_ON:
            words = (self.folder / "controller.log").read_text().splitlines()[-1:]
            self.fault(f"trial {self.number}: its controller ended by itself: {words}")
            self.number += 1
        elif self.process is not None and self.process.exitcode == os.EX_TEMPFAIL:
            state = self.stack.supervisor.states()["agent"].state
            kind = f"a controller gave up without an agent for 20 s, which is {state} by now"
            self.note(kind, self.process.pid)
        self.output.mkdir(exist_ok=True)
        log, root = self.folder / "controller.log", self.stack.layout.root
        where = (log, root, self.output, self.stack.client_url, self.author)
        self.process = FORKS.Process(target=run_controller, args=where)
        self.process.start()

    def _end(self, state: CanaryState) -> None:
        self.endings[f"{state.ending}: {state.ladder[-1].decided_by}"] += 1
        if state.ending == "passed" and state.ladder[-1].name != f"{RUNGS[-1]} %":
            self.fault(f"trial {self.number} passed without its last rung")
        self.number += 1
        while True:
            try:
                self.stack.propose({1: 100}, standby=(2,))
            except PlanConflictError:
                continue
            return

    def state(self) -> CanaryState | None:
        try:
            return CanaryState.read(self.output / STATE_FILE)
        except SlipwayError:
            return None

    def check(self) -> None:
        """Note whatever should never be so."""
        plan = TrafficPlan.read(self.stack.layout.traffic_plan)
        weights = tuple(arm.weight_percent for arm in plan.arms)
        allowed = {(100,), *((100 - percent, percent) for percent in RUNGS)}
        if weights not in allowed or plan.champion != 1:
            self.fault(f"plan {plan.generation}: weights {weights} are no rung")
        is_withdrawn = plan.author == AGENT and plan.trial is None
        if is_withdrawn:
            self.note("the agent withdrew a silent trial", plan.generation)
        if not (plan.author == "test" or plan.author.startswith("run t") or is_withdrawn):
            self.fault(f"plan {plan.generation}: by '{plan.author}'")
        if plan.generation < self.generation:
            self.fault(f"plan {plan.generation} follows {self.generation}")
        self.generation = plan.generation
        if (state := self.state()) is None or not state.is_entered:
            return
        # A rung begins again where its server has died or the agent withdrew it, and nowhere else.
        withdrawn = sum(event.kind == "withdrawn" for event in state.events)
        if state.deaths or withdrawn:
            which = (self.number, state.deaths, withdrawn)
            self.note("a phase began again after a death or a withdrawal", which)
        now = (self.number, state.phase, state.deaths + withdrawn, state.canary.requests)
        if now[:3] == self.counted[:3] and now[3] < self.counted[3]:
            self.fault(f"trial {self.number}: {self.counted[3]} requests became {now[3]}")
        self.counted = now


def kill_one(trials: Trials, random: np.random.Generator) -> str:
    """Kill something that runs; return what it was."""
    stack = trials.stack
    now = time.monotonic()
    running = {
        name: s.pid
        for name, s in stack.supervisor.states().items()
        if s.pid and now - trials.killed_at.get(name, 0.0) > PEACE_SECONDS.get(name, SERVER_PEACE)
    }
    if trials.process is not None and trials.process.is_alive():
        running["controller"] = trials.process.pid
    names = sorted(running)
    weights = np.array([OFTEN.get(name, 1.0) for name in names])
    name = str(random.choice(names, p=weights / weights.sum()))
    try:
        os.kill(running[name], signal.SIGKILL)
    except ProcessLookupError:
        return "nothing"
    trials.killed_at[name] = now
    if name == "controller" and trials.process is not None:
        trials.process.join()
    return "server" if name.startswith("server") or "-" in name else name


def wait_for_answers(load: Callers, trials: Trials) -> None:
    """Wait until callers are answered again, so that most kills hit what works."""
    began = time.monotonic()
    while not any(one.is_good and one.sent > began for one in load.answers[-20:]):
        trials.go_on()
        if time.monotonic() - began > RECOVERY_SECONDS:
            trials.fault(f"no answer for {RECOVERY_SECONDS:.0f} s after a kill")
            return
        time.sleep(0.05)


def torment(folder: Path, kills: int, seed: int, minutes: float, pause: float) -> None:
    """Let trials run and kill until enough were killed or the time is over; print what was seen."""
    from conftest import Stack  # of tests/integration/agent

    random, killed, began = np.random.default_rng(seed), Counter[str](), time.monotonic()
    stack: Any = Stack(folder)
    stack.client_url = f"http://127.0.0.1:{stack.settings.port}"
    stack.up()
    try:
        for version in (1, 2):
            stack.package(version)
        stack.serve({1: 100})
        trials = Trials(stack, folder)
        with Callers(("127.0.0.1", stack.settings.envoy_port), "digits", {}, 2, 0.005) as load:
            while killed.total() < kills and time.monotonic() - began < 60 * minutes:
                trials.go_on()
                time.sleep(float(random.exponential(pause)))
                trials.check()
                killed[kill_one(trials, random)] += 1
                trials.check()
                wait_for_answers(load, trials)
        if trials.process is not None:
            trials.process.kill()
            trials.process.join()
        trials.check()
        stack.until(
            lambda: stack.observation().generation == stack.client.plan("digits").generation,
            "the plan in force",
        )
    finally:
        stack.down()
    bad = sum(load.failures().values())
    more: dict[str, Any] = {
        "killed": dict(killed),
        "trials": dict(trials.endings),
        "wrong": [*trials.wrong],
        "as designed": {kind: len(found) for kind, found in trials.as_designed.items()},
    }
    more |= {"requests": len(load.answers), "failed": bad, "seed": seed}
    emit("kills: wrong plans, lost counts, promotions", len(trials.wrong), None, 0.0, "", **more)


def main() -> None:
    """Torment for as long as asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--pause", type=float, default=2.0, help="mean seconds between kills")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torment(Path(folder), options.kills, options.seed, options.minutes, options.pause)


if __name__ == "__main__":
    main()
