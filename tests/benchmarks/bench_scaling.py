"""How much of two processes' speed is left when they train one model together.

Run as `bench_scaling.py [--rounds N] [--models NAME ...] [--jobs NAME ...]`, all by default.
Examples a second of two processes that train together, over two that train side by side, each its
own model: on a small convnet and on 25 million parameters, by each strategy. The peer is
TensorFlow's own MultiWorkerMirroredStrategy, in the same loop; the limit is `multi_worker` with
nothing to send: two processes that wait for each other in each step. Medians of the rounds'
ratios, because a shared machine's speed wanders between rounds; and the processes' own CPU seconds.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from support import emit, training_runs  # noqa: E402
from training_models import CONVNET, DENSE, PIPELINE, SPEC, images  # noqa: E402

from contract.free_ports import free_ports  # noqa: E402
from launching.job_spec import JobSpec  # noqa: E402
from launching.processes.role_processes import THREADS, threads_each  # noqa: E402

MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "2"]
BATCH = 64  # of one process
ALONE, SHARING = "independent", "independent_sharing_cores"
PEER, LIMIT = "tensorflows_multi_worker", "nothing_to_send"
# What the launcher gives each of two processes that compute in step. Two alone get what TensorFlow
# takes by default, all cores for both, or as much as two together.
TWO = JobSpec(name="two", step="train", command=(), replicas={"chief": 1, "worker": 1})


@dataclass(frozen=True)
class Model:
    """What is trained, for how many steps, and the goal for two processes over two independent."""

    code: str
    steps: int
    goal: float


@dataclass(frozen=True)
class Job:
    """Overrides of the config, and who plays which role; without roles, two ranks of MPI.

    `copies` of it run at once; those that share the cores do as the launcher has them.
    """

    overrides: Mapping[str, object]
    members: tuple[str, ...] = ("chief-0", "worker-0")
    copies: int = 1
    is_sharing_cores: bool = True
    is_in_step: bool = True  # else two workers share the steps, and the chief computes none
    script: Path = ROOT / "tests/integration/training/roles_script.py"


MODELS = {"convnet": Model(CONVNET, 400, 0.85), "dense_25m": Model(DENSE, 24, 0.4)}

_TOGETHER = {"train.strategy": "multi_worker", "train.batch_size": 2 * BATCH}
_ALONE = {"train.batch_size": BATCH}
JOBS = {
    ALONE: Job(_ALONE, members=("chief-0",), copies=2, is_sharing_cores=False),
    SHARING: Job(_ALONE, members=("chief-0",), copies=2),
    "multi_worker": Job(_TOGETHER),
    "multi_worker_bfloat16": Job({**_TOGETHER, "train.compression": "bfloat16"}),
    "mpi": Job({**_TOGETHER, "train.strategy": "mpi"}, members=()),
    "parameter_server": Job(
        {"train.strategy": "parameter_server", "train.batch_size": BATCH},
        members=("chief-0", "worker-0", "worker-1", "ps-0"),
        is_in_step=False,
    ),
    PEER: Job({**_TOGETHER, "train.all_reduce": "grpc"}),
    LIMIT: Job(_TOGETHER, script=ROOT / "tests/benchmarks/nothing_to_send.py"),
}


class Speed(NamedTuple):
    """Examples a second of all processes, and the chief's CPU seconds by example of its own."""

    examples: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    arguments = parser.parse_args()
    jobs = [
        name
        for name in arguments.jobs
        if name != ALONE and (JOBS[name].members or shutil.which("mpirun"))
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models:
            bench_scaling(Path(folder) / name, name, jobs, arguments.rounds)


def bench_scaling(folder: Path, name: str, jobs: list[str], rounds: int) -> None:
    """Print each job's speed over that of two independent processes, and its CPU by example."""
    make_run = training_runs(folder)
    model = MODELS[name]
    speeds: dict[str, list[Speed]] = {job: [] for job in (ALONE, *jobs)}
    for _ in range(rounds):
        for job, found in speeds.items():
            found.append(_speed(folder, make_run, model, JOBS[job]))
    ratios = {
        job: [
            one.examples / alone.examples for one, alone in zip(found, speeds[ALONE], strict=True)
        ]
        for job, found in speeds.items()
    }
    peer, limit = (
        statistics.median(ratios[job]) if job in ratios else None for job in (PEER, LIMIT)
    )
    for job in jobs:
        rounds_of_job = [round(ratio, 3) for ratio in ratios[job]]
        ratio = statistics.median(ratios[job])
        emit(f"{name}_{job}", ratio, peer, limit, "ratio", goal=model.goal, rounds=rounds_of_job)
    for job, found in speeds.items():
        examples = statistics.median(speed.examples for speed in found)
        cpu = 1e3 * statistics.median(speed.cpu for speed in found)
        more = {"cpu_ms_an_example": cpu} if JOBS[job].is_in_step else {}
        emit(f"{name}_{job}_examples", examples, None, None, "1/s", **more)


@dataclass(frozen=True)
class Training:
    """One training with its processes still to be started: a plan for each of them."""

    made: Any
    plan: list[dict[str, object]]


def _training(make_run: Callable[..., Any], model: Model, job: Job) -> Training:
    steps = model.steps if job.is_in_step else 2 * model.steps
    often = {
        "train.steps": steps,
        "train.checkpoint_every_steps": steps,
        "train.log_every_steps": 4,
    }
    overrides = {**often, **job.overrides}
    made = make_run(
        model=model.code, overrides=overrides, pipeline=PIPELINE, spec=SPEC, rows=images
    )
    members = job.members or ("chief-0",)
    addresses: dict[str, list[str]] = {}
    if len(members) > 1:
        for member, port in zip(members, free_ports(len(members)), strict=True):
            addresses.setdefault(member.rsplit("-", 1)[0], []).append(f"127.0.0.1:{port}")
    where = {"root": str(made.run.root), "run_id": made.run.run_id, "addresses": addresses}
    roles = [member.rsplit("-", 1) for member in members]
    plan = [{**where, "kind": kind, "index": int(index)} for kind, index in roles]
    return Training(made, plan)


def _speed(folder: Path, make_run: Callable[..., Any], model: Model, job: Job) -> Speed:
    """Run a job, or its copies side by side; return their speed when warm."""
    trainings = [_training(make_run, model, job) for _ in range(job.copies)]
    threads = {THREADS: threads_each(TWO)} if job.is_sharing_cores else {}
    processes = []
    for number, training in enumerate(trainings):
        for rank, part in enumerate(training.plan):
            path = folder / f"plan{number}-{rank}.json"
            path.write_text(json.dumps([part]))
            command = [sys.executable, str(job.script), str(path)]
            if not job.members:
                command = [*MPIRUN, *command]
            processes.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, **threads},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("\n".join(output[-2000:] for output in outputs))
    found = [_speed_when_warm(training.made) for training in trainings]
    return Speed(sum(s.examples for s in found), statistics.mean(s.cpu for s in found))


def _speed_when_warm(made: Any) -> Speed:
    history = json.loads((made.run.path / "history.json").read_text())
    warm = [line for line in history if "examples_per_second" in line][len(history) // 3 :]
    first, last = warm[0], warm[-1]
    examples = (last["step"] - first["step"]) * BATCH
    return Speed(
        examples=statistics.median(line["examples_per_second"] for line in warm),
        cpu=(last["cpu_seconds"] - first["cpu_seconds"]) / examples,
    )


if __name__ == "__main__":
    main()
