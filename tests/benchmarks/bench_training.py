"""What training costs beside its steps: reading, checkpoints, tracking, a kill.

Run as `python tests/benchmarks/bench_training.py [--rounds N] [--only NAME ...]`. Each figure has
its peer in the same run:

input       parsed examples/s of the convnet's data, streamed from compressed shards and from plain
            ones, and from memory; the peer is tf.data's usual pipeline on the compressed shards,
            the limit reads these and does not parse: what disk and gzip allow. And the share of a
            step that waits for input.
checkpoint  how long training stands still for a checkpoint, by step time; the peer writes it first.
tracking    milliseconds a step; the peers track not at all, or wait for MLflow's answer.
resume      what a kill -9 costs; the peer starts again from nothing.

Medians; wall seconds, and the processes' own CPU seconds.
"""

import argparse
import contextlib
import gzip
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tensorflow as tf  # noqa: E402
from mlflow.entities import Metric  # noqa: E402
from support import emit, training_runs  # noqa: E402
from training_models import CONVNET, PIPELINE, ROWS, SLOW, SPEC, images  # noqa: E402

from components.data.examples import ExampleSource, example_source, parser  # noqa: E402
from components.models import checkpoints  # noqa: E402
from components.runs.tracking import Tracker, open_tracker  # noqa: E402
from components.train.input.feeding import Order, open_feed  # noqa: E402
from components.train.learning.learner import make_learner  # noqa: E402
from components.train.learning.steppers import InStep  # noqa: E402
from components.train.learning.strategies import open_strategy  # noqa: E402
from components.train.loop import Loop, Place  # noqa: E402
from components.train.peers.collectives import Alone  # noqa: E402
from components.train.watch.monitor import Monitor, Watched  # noqa: E402
from contract.storage import Attempt  # noqa: E402

STEPS = 2000
WARM_STEPS = 200  # tracing, and MLflow's first use of its database
MAX_TRACKING_MS = 0.2
SLOW_STEPS = 300  # of 0.05 s each
PARSED_GOAL = 200_000.0

READ = 512  # examples a batch, where reading alone is measured


class WaitingTracker(Tracker):
    """The peer: waits until MLflow has stored each batch."""

    def log_metrics(
        self, values: Mapping[str, float], step: int = 0, logged_at: datetime | None = None
    ) -> None:
        del logged_at
        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        self._try(lambda client: client.log_batch(self.run_id, metrics=metrics, synchronous=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    benches = {
        "input": bench_input,
        "checkpoint": bench_checkpoint,
        "tracking": bench_tracking,
        "resume": bench_resume,
    }
    parser.add_argument("--only", nargs="+", choices=benches, default=list(benches))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, bench in benches.items():
            if name in arguments.only:
                bench(Path(folder) / name, arguments.rounds)


# --- input and checkpoints ----------------------------------------------------------------------


def bench_input(folder: Path, rounds: int) -> None:
    """Print examples/s read and parsed from compressed shards, and from memory; input wait."""
    make_run = training_runs(folder)
    made = make_run(model=CONVNET, pipeline=PIPELINE, spec=SPEC, rows=images)
    source = example_source(made.run, made.config, made.record, "train")
    plain = _without_compression(source)
    readers: dict[str, Callable[[], tf.data.Dataset]] = {
        "streamed": lambda: open_feed(source, Order(READ, seed=1, lanes=2)).batches(),
        "streamed_plain": lambda: open_feed(plain, Order(READ, seed=1, lanes=2)).batches(),
        "memory": lambda: open_feed(source, Order(READ, seed=1)).batches(),
        "peer": lambda: _usual(source),
        "limit": lambda: _records(source).repeat().batch(READ).prefetch(tf.data.AUTOTUNE),
    }
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, open_reader in readers.items():
            rates[name].append(_examples_read(open_reader()))
    for position, kind in enumerate(("wall", "cpu")):
        rate = {n: statistics.median(r[position] for r in found) for n, found in rates.items()}
        for name in ("streamed", "streamed_plain", "memory"):
            figure = f"parsed_examples_{name}_{kind}"
            emit(figure, rate[name], rate["peer"], rate["limit"], "1/s", goal=PARSED_GOAL)
    figures = _figures_of(make_run, {"train.steps": 80, "train.log_every_steps": 10})
    waits = [f["input_wait_ratio"] for f in figures][2:]
    emit("convnet_input_wait", statistics.median(waits), 0.0, 0.05, "ratio of step")


def _without_compression(source: ExampleSource) -> ExampleSource:
    """Return the same shards as `transform.compression: none` has them."""
    plain = tuple(shard.with_suffix("") for shard in source.shards)
    for shard, copy in zip(source.shards, plain, strict=True):
        copy.write_bytes(gzip.decompress(shard.read_bytes()))
    return replace(source, shards=plain)


def _examples_read(batches: tf.data.Dataset) -> tuple[float, float]:
    """Return examples a second, and a CPU second, after the first batch."""
    iterator, steps = iter(batches), 6 * ROWS // READ
    next(iterator)
    started, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        next(iterator)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    return READ * steps / wall, READ * steps / cpu


def _usual(source: ExampleSource) -> tf.data.Dataset:
    """The peer: tf.data as its guides have it, shuffled across the shards."""
    whole = _records(source).shuffle(20_000, seed=1).repeat().batch(READ)
    parse = parser(source.spec)
    return whole.map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _records(source: ExampleSource) -> tf.data.Dataset:
    """The limit, but for its batches: serialized examples, of all shards beside each other."""
    names = [str(shard) for shard in source.shards]
    return tf.data.TFRecordDataset(names, "GZIP", num_parallel_reads=len(names))


def bench_checkpoint(folder: Path, rounds: int) -> None:
    """Print the share of the time that training stands still for checkpoints of the convnet."""
    make_run = training_runs(folder)
    every = {"train.steps": 200, "train.checkpoint_every_steps": 100, "train.log_every_steps": 20}
    stalls, first = [], []
    for _ in range(rounds):
        with _writing_first() as seconds:
            figures = _figures_of(make_run, every)
        first.append(sum(seconds) / (200 * statistics.median(f["step_ms"] for f in figures) / 1e3))
        figures = _figures_of(make_run, every)
        stall = sum(f["checkpoint_stall_ms"] for f in figures)
        stalls.append(stall / (200 * statistics.median(f["step_ms"] for f in figures)))
    emit("checkpoint_stall", statistics.median(stalls), statistics.median(first), 0.01, "ratio")


@contextlib.contextmanager
def _writing_first() -> Iterator[list[float]]:
    """The peer: training waits until a checkpoint is on storage."""
    seconds: list[float] = []
    submit = checkpoints.Writer.submit

    def wait(self: checkpoints.Writer, step: int, snapshot: checkpoints.Snapshot) -> None:
        started = time.perf_counter()
        submit(self, step, snapshot)
        self.wait()
        seconds.append(time.perf_counter() - started)

    checkpoints.Writer.submit = wait  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        checkpoints.Writer.submit = submit  # type: ignore[method-assign]


def _figures_of(make_run: Callable[..., Any], overrides: dict[str, Any]) -> list[dict]:
    made = make_run(model=CONVNET, overrides=overrides, pipeline=PIPELINE, spec=SPEC, rows=images)
    history: list[dict] = []

    class History(Tracker):
        def log_metrics(
            self, values: Mapping[str, float], step: int = 0, logged_at: datetime | None = None
        ) -> None:
            del logged_at
            history.append({**values, "step": step})

    made.train(History())
    return history


# --- tracking -----------------------------------------------------------------------------------


def bench_tracking(folder: Path, rounds: int) -> None:
    """Milliseconds that each step takes longer, wall and CPU, background thread included."""
    make_run = training_runs(folder)
    store = f"sqlite:///{folder}/mlflow.db"
    seconds: dict[str, list[tuple[float, float]]] = {"without": [], "ours": [], "waiting": []}
    for _ in range(rounds):
        for name, found in seconds.items():
            found.append(_seconds_a_step(make_run, store, name))
    for position, kind in enumerate(("wall", "cpu")):
        median = {n: statistics.median(v[position] for v in s) for n, s in seconds.items()}
        ours, peer = (1000 * (median[n] - median["without"]) for n in ("ours", "waiting"))
        emit(f"mlflow_{kind}_cost_to_training_step", ours, peer, MAX_TRACKING_MS, "ms")


def _seconds_a_step(make_run: Callable[..., Any], store: str, name: str) -> tuple[float, float]:
    made = make_run(
        overrides={
            "train.steps": STEPS,
            "train.checkpoint_every_steps": STEPS,
            "train.log_every_steps": 20,
        }
    )
    with open_tracker("" if name == "without" else store, made.run, "train") as tracker:
        if name == "waiting":
            tracker = WaitingTracker(tracker._client, tracker.run_id)
        source = example_source(made.run, made.config, made.record, "train")
        strategy = open_strategy(made.config.train, Alone())
        learner = make_learner(made.config, made.run.frozen_pipeline, made.graph, strategy)
        engine = InStep(learner, source, Alone())
        times: list[tuple[float, float]] = []

        def clock() -> float:  # the loop looks at it once a step
            times.append((time.perf_counter(), time.process_time()))
            return times[-1][0]

        attempt = Attempt.claim(made.run.attempts("train"))
        place = Place(made.run, attempt, clock=clock)
        watched = Watched(
            made.config.train, made.run, tracker, learner.model, engine.waited_seconds
        )
        Loop(engine, place, Monitor(watched)).run(source)
    first, last = times[WARM_STEPS], times[STEPS - 1]
    steps = STEPS - 1 - WARM_STEPS
    return (last[0] - first[0]) / steps, (last[1] - first[1]) / steps


# --- resume -------------------------------------------------------------------------------------


def bench_resume(folder: Path, rounds: int) -> None:
    """Seconds that a run takes longer because its training was killed half way."""
    make_run = training_runs(folder)
    os.environ["SLIPWAY_PIPELINES"] = str(folder / "pipelines")
    costs, again, start = [], [], []
    for _ in range(rounds):
        overrides = {"train.steps": SLOW_STEPS, "train.checkpoint_every_steps": 10}
        whole = make_run(model=SLOW, overrides=overrides)
        broken = make_run(model=SLOW, overrides=overrides)
        undisturbed = _measured(partial(_train, whole))
        killed = _measured(partial(_train, broken, kill_at=SLOW_STEPS // 2))
        resumed = _measured(partial(_train, broken))
        costs.append([k + r - u for k, r, u in zip(killed, resumed, undisturbed, strict=True)])
        again.append(killed)
        whole.run.result("train").unlink()  # all steps are done: it starts, loads and ends
        start.append(_measured(partial(_train, whole)))
    for position, kind in enumerate(("wall", "cpu")):
        ours, peer, limit = (
            statistics.median(v[position] for v in values) for values in (costs, again, start)
        )
        emit(f"resume_{kind}_cost_after_kill", ours, peer, limit, "s")


def _train(made: object, kill_at: int | None = None) -> None:
    process = made.start("train")  # type: ignore[attr-defined]
    if kill_at is not None:
        made.wait_for(made.run.checkpoint_manifest(kill_at).exists, process)  # type: ignore[attr-defined]
        process.kill()
    output = process.communicate()[0]
    if kill_at is None and process.returncode != 0:
        raise RuntimeError(output)


def _measured(work: Callable[[], None]) -> tuple[float, float]:
    """Return wall seconds and the CPU seconds of child processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    work()
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
