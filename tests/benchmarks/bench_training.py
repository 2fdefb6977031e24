"""What tracking costs a training step, and what a killed training costs.

Run as `python tests/benchmarks/bench_training.py [--rounds N]`. The tracked loop is the product's
own, on a small model with default logging; its peers, in the same run, are the loop without
tracking, which is taken off, and one that waits for MLflow's answer at every report. A killed
training is a real process under `kill -9`; its peer starts again from nothing, its limit is what
starting any process costs. Medians; wall seconds, and the process's own CPU seconds.
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from mlflow.entities import Metric  # noqa: E402

from components.examples import example_source  # noqa: E402
from components.tracking import Tracker, open_tracker  # noqa: E402
from components.train.learner import make_learner  # noqa: E402
from components.train.loop import Loop, Stop  # noqa: E402
from components.train.progress import Progress  # noqa: E402
from components.train.strategies import open_strategy  # noqa: E402
from contract.storage import Attempt  # noqa: E402

STEPS = 2000
WARM_STEPS = 200  # tracing, and MLflow's first use of its database
MAX_TRACKING_MS = 0.2
SLOW_STEPS = 300  # of 0.05 s each

SLOW_MODEL = """
import time
import keras

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.05)

def build_model(features, hyperparameters):
    return keras.Model(inputs=features, outputs=keras.layers.Dense(3)(features["x"]))

def callbacks(hyperparameters, steps):
    return [Slow()]
"""


class WaitingTracker(Tracker):
    """The peer: waits until MLflow has stored each batch."""

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        self._try(lambda client: client.log_batch(self.run_id, metrics=metrics, synchronous=True))


def emit(name: str, ours: float, peer: float, limit: float, unit: str) -> None:
    ratio = round(ours / peer, 4) if peer else None
    line = {"name": name, "ours": round(ours, 4), "peer": round(peer, 4)}
    print(json.dumps(line | {"limit": round(limit, 4), "ratio": ratio, "unit": unit}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        bench_tracking(Path(folder) / "tracking", rounds)
        bench_resume(Path(folder) / "resume", rounds)


# --- tracking -----------------------------------------------------------------------------------


def bench_tracking(folder: Path, rounds: int) -> None:
    """Milliseconds that each step takes longer, wall and CPU, background thread included."""
    make_run = _run_maker(folder)
    store = f"sqlite:///{folder}/mlflow.db"
    seconds: dict[str, list[tuple[float, float]]] = {"without": [], "ours": [], "waiting": []}
    for _ in range(rounds):
        for name, found in seconds.items():
            found.append(_seconds_a_step(make_run, store, name))
    for position, kind in enumerate(("wall", "cpu")):
        median = {n: statistics.median(v[position] for v in s) for n, s in seconds.items()}
        ours, peer = (1000 * (median[n] - median["without"]) for n in ("ours", "waiting"))
        emit(f"mlflow_{kind}_cost_to_training_step", ours, peer, MAX_TRACKING_MS, "ms")


def _seconds_a_step(make_run: Callable[..., object], store: str, name: str) -> tuple[float, float]:
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
        strategy = open_strategy("single")
        learner = make_learner(made.config, made.run.frozen_pipeline, made.graph, strategy)
        attempt = Attempt.claim(made.run.attempts("train"))
        loop = Loop(learner, made.run, attempt, Progress(made.config.train, tracker))
        times: list[tuple[float, float]] = []

        def clock() -> float:  # the loop looks at it once a step
            times.append((time.perf_counter(), time.process_time()))
            return times[-1][0]

        loop.run(source, Stop(), clock)
    first, last = times[WARM_STEPS], times[STEPS - 1]
    steps = STEPS - 1 - WARM_STEPS
    return (last[0] - first[0]) / steps, (last[1] - first[1]) / steps


# --- resume -------------------------------------------------------------------------------------


def bench_resume(folder: Path, rounds: int) -> None:
    """Seconds that a run takes longer because its training was killed half way."""
    make_run = _run_maker(folder)
    os.environ["SLIPWAY_PIPELINES"] = str(folder / "pipelines")
    costs, again, start = [], [], []
    for _ in range(rounds):
        overrides = {"train.steps": SLOW_STEPS, "train.checkpoint_every_steps": 10}
        whole = make_run(model=SLOW_MODEL, overrides=overrides)
        broken = make_run(model=SLOW_MODEL, overrides=overrides)
        undisturbed = _measured(lambda made=whole: _train(made))
        killed = _measured(lambda made=broken: _train(made, kill_at=SLOW_STEPS // 2))
        resumed = _measured(lambda made=broken: _train(made))
        costs.append([k + r - u for k, r, u in zip(killed, resumed, undisturbed, strict=True)])
        again.append(killed)
        whole.run.result("train").unlink()  # all steps are done: it starts, loads and ends
        start.append(_measured(lambda made=whole: _train(made)))
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


# --- small runs ---------------------------------------------------------------------------------


def _run_maker(folder: Path) -> Callable[..., object]:
    """Return what the training tests make their runs with, below a folder of its own."""
    return _load(ROOT / "tests/integration/training/conftest.py").RunMaker(
        folder / "root", folder / "pipelines"
    )


def _load(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("training_runs", path)
    if specification is None or specification.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
