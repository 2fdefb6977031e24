"""What callers lose while processes of one machine's serving die, hang or find damaged files.

Run as `python tests/benchmarks/bench_chaos.py [--faults N] [--seed S] [--only KIND ...]`. A real
stack (supervisord, two Envoys, the serving agent, real model servers) answers about 150 requests a
second, without retries by the callers. Faults come one after the other, in an order and at moments
that the seed decides. For each kind: requests lost per fault, and the seconds until the last of
them. At the end it looks for what must never be: a trial without a judge, a process that outlives
the stack, a promotion that nobody made.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from support import ROOT, emit, handmade_runs

CALLERS, PAUSE_SECONDS = 16, 0.1  # about 150 requests a second
SETTLED_SECONDS = 4.0  # a fault is over after so many without a failure
LONGEST_SECONDS = 120.0
BUDGET = 20  # requests that a kill may cost at this rate


@dataclass
class Seen:
    """What faults of one kind have cost."""

    lost: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Chaos:
    """A stack under load, and the faults that are done to it."""

    def __init__(self, stack: Any, seed: int) -> None:
        self.stack = stack
        self.random = random.Random(seed)
        self.canary: subprocess.Popen[str] | None = None
        self.run_id = ""

    @property
    def plan(self) -> Any:
        return self.stack.client.plan(self.stack.layout.pipeline)

    def pid(self, program: str) -> int:
        return int(self.stack.programs()[program].pid)

    def server(self, version: int) -> str:
        return f"slipway-server-{self.stack.layout.pipeline}-{version}"

    # --- faults ---------------------------------------------------------------------------------

    def kill_champion(self) -> None:
        os.kill(self.pid(self.server(self.plan.champion)), signal.SIGKILL)

    def hang_champion(self) -> None:
        os.kill(self.pid(self.server(self.plan.champion)), signal.SIGSTOP)

    def kill_standby(self) -> None:
        os.kill(self.pid(self.server(self.plan.standby[0])), signal.SIGKILL)

    def kill_envoy(self) -> None:
        os.kill(self.pid(self.random.choice(["envoy", "envoy-2"])), signal.SIGKILL)

    def hang_envoy(self) -> None:
        name = self.random.choice(["envoy", "envoy-2"])
        os.kill(hung := self.pid(name), signal.SIGSTOP)
        self.wait(lambda: self.pid(name) not in (0, hung), "it is replaced")

    def kill_agent(self) -> None:
        os.kill(self.pid("agent"), signal.SIGKILL)

    def damage_plan(self) -> None:
        self.stack.layout.traffic_plan.write_text(self.random.choice(["", "{", "\x00" * 200]))

    def kill_supervisord(self) -> None:
        """Kill it, and start it again as `slipway up` does."""
        home = self.stack.settings.supervisor_home
        os.kill(int((home / "supervisord.pid").read_text()), signal.SIGKILL)
        time.sleep(1.0)
        self.stack.start_again()

    def kill_candidate(self) -> None:
        self._begin_trial()
        os.kill(self.pid(self.server(self.plan.trial[0])), signal.SIGKILL)
        self._end_trial()

    def kill_judge(self) -> None:
        """Kill the judge in its trial; a retry goes on."""
        self._begin_trial()
        assert self.canary is not None
        self.canary.kill()
        self.canary.wait()
        self.canary = self.stack.start("canary", self.run_id)
        self._end_trial()

    def lose_judge(self) -> None:
        """Kill the judge for good: the agent withdraws the trial."""
        self._begin_trial()
        assert self.canary is not None
        self.canary.kill()
        self.canary.wait()
        self.wait(lambda: self.plan.trial is None, "the trial is withdrawn")

    # --- around them ----------------------------------------------------------------------------

    def _begin_trial(self) -> None:
        version = self.stack.layout.kept_versions()[-1] + 1
        self.run_id = self.stack.package(version, self.plan.champion, lease_seconds=10.0)
        self.canary = self.stack.start("canary", self.run_id)
        self.wait(lambda: self.plan.canary is not None, "a trial is on a rung")
        time.sleep(self.random.uniform(0.0, 2.0))

    def _end_trial(self) -> None:
        assert self.canary is not None
        output, _ = self.canary.communicate(timeout=300)
        assert self.canary.returncode == 0, output
        # it passed, and nobody promotes it: that is a trial without a judge, too
        self.wait(lambda: self.plan.trial is None, "the trial is over")

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LONGEST_SECONDS
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so in {LONGEST_SECONDS:.0f} s: {what}")
            time.sleep(0.1)


KINDS: dict[str, Callable[[Chaos], None]] = {
    "champion's server killed": Chaos.kill_champion,
    "champion's server hangs": Chaos.hang_champion,
    "standby's server killed": Chaos.kill_standby,
    "one of two Envoys killed": Chaos.kill_envoy,
    "one of two Envoys hangs": Chaos.hang_envoy,
    "serving agent killed": Chaos.kill_agent,
    "supervisord killed, then `up`": Chaos.kill_supervisord,
    "plan.json damaged": Chaos.damage_plan,
    "candidate's server killed": Chaos.kill_candidate,
    "judge killed and retried": Chaos.kill_judge,
    "judge killed for good": Chaos.lose_judge,
}


def one_fault(chaos: Chaos, kind: str, callers: Any) -> tuple[int, float]:
    """Do a fault; return how many requests failed, and until when after it they did."""
    chaos.wait(lambda: is_well(chaos), "all servers are ready")
    time.sleep(chaos.random.uniform(0.0, 1.0))
    began, first = time.monotonic(), len(callers.answers)
    KINDS[kind](chaos)
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        failed = [one for one in callers.answers[first:] if not one.is_good]
        last = max((one.sent + one.seconds for one in failed), default=began)
        if is_well(chaos) and time.monotonic() - max(last, began) > SETTLED_SECONDS:
            return len(failed), last - began
        time.sleep(0.2)
    raise TimeoutError(f"{kind}: not over in {LONGEST_SECONDS:.0f} s")


def is_well(chaos: Chaos) -> bool:
    """Tell whether traffic follows the plan, and every server and Envoy runs."""
    plan = chaos.plan
    seen = chaos.stack.client.observation(plan.pipeline)
    are_ready = all((arm := seen.of(v)) is not None and arm.is_ready for v in plan.versions)
    states = chaos.stack.programs().values()
    is_kept = all(one.state in ("RUNNING", "STARTING") and one.pid for one in states)
    stands_in = any("answers in its place" in problem for problem in seen.problems)
    return seen.generation == plan.generation and are_ready and is_kept and not stands_in


def table(found: dict[str, Seen]) -> str:
    """Return the table for the docs, in Markdown."""
    lines = [
        "| Fault | Times | Requests lost, median (most) | Until the last loss, s, median (most) |",
        "|---|---|---|---|",
    ]
    for kind, seen in found.items():
        lost = f"{median(seen.lost):.0f} ({max(seen.lost)})"
        seconds = f"{median(seen.seconds):.1f} ({max(seen.seconds):.1f})"
        lines.append(f"| {kind} | {len(seen.lost)} | {lost} | {seconds} |")
    return "\n".join(lines)


def left_running(folder: Path) -> list[str]:
    """Return the command lines of processes that have to do with a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(folder) in line and process.pid != os.getpid():
            found.append(line)
    return found


def main() -> None:
    """Do the faults and print figures and table; SIGTERM ends the stack, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=22)
    parser.add_argument("--only", nargs="*", choices=list(KINDS), default=list(KINDS))
    options = parser.parse_args()
    sys.path.append(str(ROOT / "tests"))  # what the tests of deployments share
    runs = handmade_runs("deploy")
    found: dict[str, Seen] = defaultdict(Seen)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        model = folder / "coin"
        subprocess.run([sys.executable, "-c", runs.EXPORT, str(model)], check=True, cwd=ROOT)
        stack = runs.Stack(folder, model, envoys=2)
        stack.up()
        try:
            stack.deploy(stack.package(1, compared_with=None))
            chaos = Chaos(stack, options.seed)
            kinds = [options.only[n % len(options.only)] for n in range(options.faults)]
            chaos.random.shuffle(kinds)
            address = ("127.0.0.1", stack.settings.envoy_port)
            body = {"instances": [1.5]}
            with runs.Callers(address, stack.layout.pipeline, body, CALLERS, PAUSE_SECONDS) as load:
                stack.deploy(stack.package(2, compared_with=1))
                for kind in kinds:
                    lost, seconds = one_fault(chaos, kind, load)
                    found[kind].lost.append(lost)
                    found[kind].seconds.append(seconds)
                    print(f"# {kind}: {lost} lost, {seconds:.1f} s", flush=True)
            assert chaos.plan.trial is None, "no trial without a judge"
            assert chaos.plan.champion == 2, "no promotion that nobody made"
            answers = len(load.answers)
        finally:
            stack.down()
        assert left_running(folder) == [], "nothing outlives the stack"
    lost = sum(sum(seen.lost) for seen in found.values())
    emit("chaos_requests_lost", lost, None, BUDGET * len(kinds), "requests", requests=answers)
    print(table(found))


if __name__ == "__main__":
    main()
