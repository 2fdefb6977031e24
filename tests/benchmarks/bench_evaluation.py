"""What evaluation costs: the queue, a verdict, the trainer beside it, and how late verdicts are.

Run as `python tests/benchmarks/bench_evaluation.py [--rounds N] [--examples N]`.

* The queue's own work for one checkpoint (look, claim, check, publish, and what goes between them),
  with nothing to judge; its peer makes and judges by a bare file, its limit is a bare link and
  rename on the same disk.
* A verdict of 10,000 examples: the time to load and judge; its limit is the model alone.
* A training of its own process, alone and with an evaluator on another core; its limit is the
  training alone. And the lag of those verdicts against the time between two checkpoints.

Medians; wall and CPU seconds of the process itself. On a machine with one core the evaluator has
none of its own, and the line says so.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from support import emit, handmade_runs  # noqa: E402

from components.evaluate.queue import Holder, Queue, Terms  # noqa: E402
from components.evaluate.worker import Duties, Patience, Worker  # noqa: E402
from components.quality.verdicts import read_verdicts  # noqa: E402
from contract.layout import RunLayout  # noqa: E402
from contract.records.evaluation import Verdict  # noqa: E402
from contract.records.record import Result  # noqa: E402
from contract.records.training import CheckpointManifest, TrainingEnded  # noqa: E402
from contract.storage import create_exclusively, write_atomically  # noqa: E402
from contract.stores import FolderStore  # noqa: E402

MAX_SLOWDOWN = 1.03
CHECKPOINTS = 200

MODEL = """
import keras

def build_model(features, hyperparameters):
    hidden = features["x"]
    for _ in range(4):
        hidden = keras.layers.Dense(512, activation="relu")(hidden)
    return keras.Model(inputs=features, outputs=keras.layers.Dense(1, name="last")(hidden))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench_queue(Path(folder) / "queue", arguments.rounds)
        os.environ["SLIPWAY_PIPELINES"] = str(Path(folder) / "runs" / "pipelines")
        make_run = handmade_runs("evaluation").RunMaker(
            Path(folder) / "runs/root", Path(folder) / "runs/pipelines"
        )
        bench_verdict(make_run, arguments.rounds, arguments.examples)
        bench_beside_training(make_run, arguments.rounds)


# --- the queue ----------------------------------------------------------------------------------


def bench_queue(folder: Path, rounds: int) -> None:
    """Milliseconds a checkpoint, and checkpoints a second, of which a queue can do no more."""
    ours = [_queue_ms(folder / f"ours{n}") for n in range(rounds)]
    peer = [_bare_ms(folder / f"peer{n}", operations=("create",)) for n in range(rounds)]
    limit = [_bare_ms(folder / f"limit{n}", operations=("create", "write")) for n in range(rounds)]
    figures = [statistics.median(values) for values in (ours, peer, limit)]
    emit("queue_latency_of_a_checkpoint", *figures, "ms")
    emit("queue_checkpoints_per_second", *(1000 / figure for figure in figures), "1/s")


def _queue_ms(folder: Path) -> float:
    run, now = RunLayout(folder, "bench", "run"), datetime.now(UTC)
    for step in range(1, CHECKPOINTS + 1):
        manifest = CheckpointManifest(step=step, files={}, written_at=now)
        manifest.write(run.checkpoint_manifest(step))
    ended = TrainingEnded(has_succeeded=True, last_step=CHECKPOINTS, reason="", ended_at=now)
    ended.write(run.training_ended)
    queue = Queue(run, FolderStore(run.evaluation_queue), Terms(Holder(0, 1), 15.0))
    duties = Duties(judge=_verdict, announce=None, check=lambda: None)
    started = time.perf_counter()
    Worker(queue, duties, Patience(0.01, 60.0)).work_off()
    return (time.perf_counter() - started) / CHECKPOINTS * 1000


def _bare_ms(folder: Path, operations: tuple[str, ...]) -> float:
    """The same verdicts by files alone: nobody asks whether another one judges."""
    content = _verdict(1).model_dump_json(indent=2)
    started = time.perf_counter()
    for step in range(1, CHECKPOINTS + 1):
        if "write" in operations:
            write_atomically(folder / "lease" / str(step), "0.1")
        create_exclusively(folder / "verdict" / str(step), content)
    return (time.perf_counter() - started) / CHECKPOINTS * 1000


def _verdict(step: int) -> Verdict:
    return Verdict(step=step, examples=1, metrics={}, judged_at=datetime.now(UTC), lag_seconds=0.0)


# --- a verdict ----------------------------------------------------------------------------------


def bench_verdict(make_run: Any, rounds: int, examples: int) -> None:
    """Seconds from a claim to a verdict, for a dense model of four layers of 512."""
    from components.data.examples import example_source
    from components.evaluate.one_checkpoint import CheckpointJudge

    rows = (handmade_runs("evaluation").default_rows() * (examples // 100 + 1))[:examples]
    made = make_run(model=MODEL, rows=rows)
    graph = made.run.step("transform") / made.record.transform_graph
    source = example_source(made.run, made.config, made.record, "eval")
    judge = CheckpointJudge(made.config, made.run.frozen_pipeline, graph, source)
    judge.judge()  # traces
    whole, model = [], []
    for _ in range(rounds):
        whole.append(_measured(judge.judge))
        model.append(
            _measured(lambda: [judge.scores_of(batch.features) for batch in judge._batches])
        )
    for position, kind in enumerate(("wall", "cpu")):
        ours, limit = (statistics.median(v[position] for v in values) for values in (whole, model))
        emit(f"verdict_{kind}_of_{examples}_examples", ours, None, limit, "s")


def _measured(work: Any) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


# --- beside training ----------------------------------------------------------------------------


def bench_beside_training(make_run: Any, rounds: int) -> None:
    """Seconds of a training, alone and with an evaluator; lag in checkpoint intervals."""
    cores = sorted(os.sched_getaffinity(0))
    alone, beside = [], []
    for _ in range(rounds):
        alone.append(_training(make_run, cores, has_evaluator=False))
        beside.append(_training(make_run, cores, has_evaluator=True))
    where = "on_its_own_core" if len(cores) > 1 else "on_the_same_core"
    for position, kind in enumerate(("wall", "cpu")):
        ours, peer = (statistics.median(one[position] for one in r) for r in (beside, alone))
        emit(f"training_with_evaluator_{where}_{kind}", ours, peer, peer * MAX_SLOWDOWN, "s")
    lag = statistics.median(one.lag for one in beside)
    emit("lag_p95_in_checkpoint_intervals", lag, None, 1.0, "intervals")


class _Training(NamedTuple):
    """Wall seconds from the first checkpoint to the last, CPU seconds of the whole trainer, and the
    verdicts' lag, p95, in checkpoint intervals.
    """

    wall: float
    cpu: float
    lag: float = 0.0


def _training(make_run: Any, cores: list[int], has_evaluator: bool) -> _Training:
    overrides = {"train.steps": 1500, "train.checkpoint_every_steps": 100, "train.batch_size": 64}
    made = make_run(model=MODEL, overrides=overrides)
    evaluator = _start(made, "evaluate", cores[-1]) if has_evaluator else None
    if evaluator is not None:
        time.sleep(15)  # until it has imported what it needs: that is not what is asked
    trainer = _start(made, "train", cores[0])
    _, status, used = os.wait4(trainer.pid, 0)
    if status or (evaluator is not None and evaluator.wait() != 0):
        raise RuntimeError((made.run.path / "log").read_text()[-5000:])
    manifests = [
        CheckpointManifest.read(path)
        for path in sorted(made.run.checkpoints.glob("[0-9]*/manifest.json"))
    ]
    written = [manifest.written_at.timestamp() for manifest in manifests]
    seconds = written[-1] - written[0]
    interval = seconds / (len(written) - 1)
    cpu = used.ru_utime + used.ru_stime
    if evaluator is None:
        return _Training(seconds, cpu)
    assert len(read_verdicts(made.run)) == len(written)
    lag = Result.read(made.run.result("evaluate")).metrics["p95_lag_seconds"]
    return _Training(seconds, cpu, lag / interval)


def _start(made: Any, component: str, core: int) -> "subprocess.Popen[bytes]":
    command = ["taskset", "-c", str(core), sys.executable, "-m", f"components.{component}"]
    command += ["--pipeline", "tiny", "--run-id", made.run.run_id, "--root", str(made.run.root)]
    with (made.run.path / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)


if __name__ == "__main__":
    main()
