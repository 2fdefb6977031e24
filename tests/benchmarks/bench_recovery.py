"""How long a training stands still when one of its processes is killed, stopped or hangs, by role.

Run as `python tests/benchmarks/bench_recovery.py [--rounds N] [--only CASE ...]`. Each case is a
real job of local processes. Again and again one role gets SIGKILL, SIGTERM (it publishes first, and
ends) or SIGSTOP (so that it hangs and must be found), and the clock runs until the next checkpoint
is published, less what training up to it takes. An evaluator is killed beside a training, until the
next verdict. The peer is the same job's start from nothing, measured in the same way; CPU seconds
are those of the whole job. The launcher's wait before a restart (2 s at first, by default) is set
to almost nothing, so it comes on top. Medians of the rounds.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from support import ROOT, emit, training_runs
from training_models import SLOW

from components.quality.verdicts import read_verdicts
from contract.command import StepCommand
from contract.schema.cluster import JobConfig
from launching.job_spec import job_of
from launching.processes.role_processes import under_mpirun

CHECKPOINT_STEPS = 10
STEP_SECONDS = 0.05  # of SLOW
SILENCE_SECONDS = 10.0  # after so long a process counts as hanging; a step, after twice that
LONGEST_SECONDS = 300.0

Seconds = tuple[float, float]  # wall, CPU


@dataclass(frozen=True)
class Case:
    """A strategy, and who is hit in it."""

    strategy: str
    role: str
    sign: signal.Signals = signal.SIGKILL
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        how = {signal.SIGKILL: "killed", signal.SIGTERM: "terminated", signal.SIGSTOP: "stopped"}
        return f"recovery_{self.strategy}_{self.role}_{how[self.sign]}"


TWO = {"train.workers": 2}
SERVERS = TWO | {"train.parameter_servers": 1}
KILL, TERM, STOP = signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP
CASES = [
    *(Case("single", "chief", sign) for sign in (KILL, TERM)),
    *(Case("multi_worker", r, s, TWO) for r in ("chief", "worker") for s in (KILL, TERM, STOP)),
    *(
        Case("parameter_server", role, sign, SERVERS)
        for role in ("chief", "worker", "ps")
        for sign in (KILL, TERM, STOP)
    ),
    *(Case("mpi", role, sign, TWO) for role in ("chief", "worker") for sign in (KILL, TERM)),
    Case("single", "evaluator"),
]


def measure(case: Case, folder: Path, rounds: int) -> tuple[list[Seconds], Seconds]:
    """Return what each round stood still, wall and CPU, and what the start from nothing took."""
    overrides = case.settings | {
        "train.strategy": case.strategy,
        "train.steps": 100_000,
        "train.checkpoint_every_steps": CHECKPOINT_STEPS,
        "train.step_timeout_seconds": 2 * SILENCE_SECONDS,
    }
    made = training_runs(folder)(model=SLOW, overrides=overrides)
    with contextlib.ExitStack() as jobs:
        job = jobs.enter_context(running(made, "train"))
        steps, step_seconds = (lambda: made.published), STEP_SECONDS
        if case.role == "evaluator":
            wait_until(lambda: made.published)
            job = jobs.enter_context(running(made, "evaluate"))
            steps, step_seconds = (lambda: [v.step for v in read_verdicts(made.run)]), 0.0
        start = until_next(job, steps, Clock(job), step_seconds)
        return [one_round(case, job, steps, step_seconds) for _ in range(rounds)], start


def one_round(
    case: Case, job: psutil.Process, steps: Callable[[], list[int]], step_seconds: float
) -> Seconds:
    """Hit the role in mid-training and wait until the job has got on."""
    time.sleep(CHECKPOINT_STEPS * STEP_SECONDS)
    victim, clock = process_of(job, case), Clock(job)
    victim.send_signal(case.sign)
    if case.sign == TERM:  # it publishes once more: that is not what is waited for
        victim.wait(LONGEST_SECONDS)
    return until_next(job, steps, clock, step_seconds)


class Clock:
    """Wall and CPU seconds of a job, from now on."""

    def __init__(self, job: psutil.Process) -> None:
        self._job = job
        self._begin = time.monotonic(), _cpu_seconds(job)

    def read(self) -> Seconds:
        wall, cpu = self._begin
        return time.monotonic() - wall, _cpu_seconds(self._job) - cpu


def until_next(
    job: psutil.Process, steps: Callable[[], list[int]], clock: Clock, step_seconds: float
) -> Seconds:
    """Wait for another step of `steps`; return how long, less the training up to it."""
    last = max(steps(), default=0)
    wait_until(lambda: max(steps(), default=0) > last)
    wall, cpu = clock.read()
    return wall - (max(steps()) - last) * step_seconds, cpu


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + LONGEST_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"nothing came in {LONGEST_SECONDS:g} s")
        time.sleep(0.01)


@contextmanager
def running(made: Any, step: str) -> Iterator[psutil.Process]:
    """Run the training's or the evaluation's job as the launcher of processes does."""
    command = StepCommand(step, made.run.pipeline, made.run.run_id, str(made.run.root))
    settings = JobConfig(max_restarts=100, restart_backoff_seconds=0.01)
    job = job_of("bench", command, made.config, settings, sys.executable)
    assert job is not None
    if job.is_mpi:
        job = under_mpirun(job)
    launcher = [sys.executable, "-m", "launching.processes.role_processes", job.model_dump_json()]
    process = subprocess.Popen(
        launcher, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def process_of(job: psutil.Process, case: Case) -> psutil.Process:
    """Return the process of a role's last replica."""
    found = []
    for process in job.children(recursive=True):
        try:
            environment, command = process.environ(), " ".join(process.cmdline()[:4])
        except psutil.NoSuchProcess:  # it has just ended
            continue
        is_ours = "-m components." in command
        if case.strategy == "mpi":
            rank = "0" if case.role == "chief" else "1"
            is_ours = is_ours and environment.get("OMPI_COMM_WORLD_RANK") == rank
        elif case.strategy != "single":
            role = json.loads(environment.get("TF_CONFIG", "{}")).get("task", {}).get("type")
            is_ours = is_ours and role == case.role
        found += [process] if is_ours else []
    return found[-1]


def _cpu_seconds(job: psutil.Process) -> float:
    """Return the CPU seconds of a launcher and all below it, those that have ended included."""
    total = 0.0
    for process in (job, *job.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # own and reaped children's, user and system
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    names = [case.name for case in CASES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CASE")
    chosen = parser.parse_args()
    for case in CASES:
        if case.name not in chosen.only:
            continue
        with tempfile.TemporaryDirectory(prefix="slipway-bench-") as place:
            os.environ["SLIPWAY_PIPELINES"] = str(Path(place) / "pipelines")
            rounds, start = measure(case, Path(place), chosen.rounds)
        for position, kind in enumerate(("wall", "cpu")):
            median = statistics.median(seconds[position] for seconds in rounds)
            emit(f"{case.name}_{kind}", median, start[position], None, "s")


if __name__ == "__main__":
    main()
