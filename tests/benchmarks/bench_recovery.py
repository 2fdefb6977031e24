"""How long a training stands still when one of its processes is killed, or hangs, by role.

Run as `python tests/benchmarks/bench_recovery.py [--rounds N] [--only CASE]`. Each case is a real
job of local processes. Again and again one role gets SIGKILL (`stopped`: SIGSTOP, so that it hangs
and must be found), and the clock runs until the next checkpoint is published, less what training
up to it takes. The peer is the same job's start from nothing, measured in the same way. The
launcher's wait before a restart (2 s at first, by default) is set to almost nothing, so it comes on
top. Medians of the rounds.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from bench_training import SLOW_MODEL
from support import ROOT, emit, training_runs

from contract.command import StepCommand
from contract.schema.cluster import JobConfig
from operators.job_spec import training_job
from operators.launchers.processes import under_mpirun

CHECKPOINT_STEPS = 10
STEP_SECONDS = 0.05  # of SLOW_MODEL
SILENCE_SECONDS = 10.0  # train.step_timeout_seconds: after so long a process counts as hanging


@dataclass(frozen=True)
class Case:
    """A strategy, and who is hit in it."""

    strategy: str
    role: str
    sign: signal.Signals = signal.SIGKILL
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        how = "killed" if self.sign == signal.SIGKILL else "stopped"
        return f"recovery_{self.strategy}_{self.role}_{how}"


TWO = {"train.workers": 2}
SERVERS = TWO | {"train.parameter_servers": 1}
CASES = [
    Case("single", "chief"),
    Case("multi_worker", "chief", settings=TWO),
    Case("multi_worker", "worker", settings=TWO),
    Case("multi_worker", "worker", signal.SIGSTOP, TWO),
    Case("parameter_server", "chief", settings=SERVERS),
    Case("parameter_server", "worker", settings=SERVERS),
    Case("parameter_server", "ps", settings=SERVERS),
    Case("mpi", "worker", settings=TWO),
]


def measure(case: Case, folder: Path, rounds: int) -> tuple[list[float], float]:
    """Return the seconds that each round stood still, and those of the start from nothing."""
    overrides = case.settings | {
        "train.strategy": case.strategy,
        "train.steps": 100_000,
        "train.checkpoint_every_steps": CHECKPOINT_STEPS,
        "train.step_timeout_seconds": SILENCE_SECONDS,
    }
    made = training_runs(folder)(model=SLOW_MODEL, overrides=overrides)
    with job_of(made) as job:
        start = seconds_to_checkpoint(made, 0)
        seconds = []
        for _ in range(rounds):
            time.sleep(CHECKPOINT_STEPS * STEP_SECONDS)
            victim = process_of(job, case)
            victim.send_signal(case.sign)
            seconds.append(seconds_to_checkpoint(made, made.published[-1]))
    return seconds, start


def seconds_to_checkpoint(made: Any, last: int) -> float:
    """Wait for a checkpoint after `last`; return how long, less the training up to it."""
    started = time.monotonic()
    while not (published := made.published) or published[-1] <= last:
        if time.monotonic() - started > 300:
            raise SystemExit("no checkpoint came in 300 s")
        time.sleep(0.01)
    return time.monotonic() - started - CHECKPOINT_STEPS * STEP_SECONDS


@contextmanager
def job_of(made: Any) -> Iterator[psutil.Process]:
    """Run the training's job as the launcher of processes does."""
    command = StepCommand("train", made.run.pipeline, made.run.run_id, str(made.run.root))
    settings = JobConfig(max_restarts=100, restart_backoff_seconds=0.01)
    job = training_job("bench", command, made.config.train, settings, sys.executable)
    if job.is_mpi:
        job = under_mpirun(job)
    launcher = [sys.executable, "-m", "operators.launchers.processes", job.model_dump_json()]
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
        environment = process.environ()
        is_training = "components.train" in " ".join(process.cmdline()[:4])
        if case.strategy == "mpi":
            is_training = is_training and environment.get("OMPI_COMM_WORLD_RANK") == "1"
        elif case.strategy != "single":
            role = json.loads(environment.get("TF_CONFIG", "{}")).get("task", {}).get("type")
            is_training = is_training and role == case.role
        found += [process] if is_training else []
    return found[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=[case.name for case in CASES])
    chosen = parser.parse_args()
    for case in CASES:
        if chosen.only not in (None, case.name):
            continue
        with tempfile.TemporaryDirectory(prefix="slipway-bench-") as place:
            os.environ["SLIPWAY_PIPELINES"] = str(Path(place) / "pipelines")
            seconds, start = measure(case, Path(place), chosen.rounds)
        emit(case.name, statistics.median(seconds), start, None, "s")


if __name__ == "__main__":
    main()
