"""What a first run costs, and how good the shipped models are on real data, by the whole chain.

Run as `python tests/benchmarks/bench_pipelines.py [--only digits|census|mnist] [--data FOLDER]`.
Each pipeline goes through real Airflow from raw files into service. The models' figures are those
of `bless`, on the test split; their peers learn from the same files in this run, in scikit-learn:
gradient boosting for the table, three nearest neighbours for the images; the limits are the goals.
What `optimize` did is checked too: int8 tried, judged with an interval, its cost within the budget.
`digits` needs no data; its peer is the same run without Airflow. CPU is that of all services and of
whatever they started. One round each: a training is minutes long.
"""

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from support import emit  # noqa: E402

from contract.layout import PipelineLayout, RunLayout  # noqa: E402
from contract.records.evaluation import BlessRecord  # noqa: E402
from contract.records.optimization import OptimizeRecord  # noqa: E402
from contract.records.record import Result  # noqa: E402
from contract.records.traffic import DeployRecord  # noqa: E402

SLIPWAY = str(Path(sys.executable).with_name("slipway"))
MAX_FIRST_RUN_SECONDS = 240
KIB = 1024
IDX_HEADER_BYTES = {3: 16, 1: 8}  # by the number of dimensions


@dataclass(frozen=True)
class Case:
    """A shipped pipeline, where its data lies, and what it has to reach."""

    head: str
    metric: str
    goal: float
    overrides: Callable[[Path], dict[str, str]]
    peer: Callable[[Path], float]


def census_files(data: Path) -> dict[str, str]:
    return {
        f"ingest.{source}.files": json.dumps([str(data / "census" / f"adult.{part}.csv")])
        for source, part in (("source", "train"), ("test_source", "test"))
    }


def mnist_files(data: Path) -> dict[str, str]:
    return {
        f"ingest.{source}.{kind}s": str(data / "mnist" / f"{part}-{kind}s-idx{rank}-ubyte.gz")
        for source, part in (("source", "train"), ("test_source", "t10k"))
        for kind, rank in (("image", 3), ("label", 1))
    }


def boosted_auc(data: Path) -> float:
    """Return the AUC of gradient boosting on the test file."""
    (train, known), (test, wanted) = (
        _table(data / "census" / f"adult.{part}.csv") for part in ("train", "test")
    )
    texts = [name for name in train if not pd.api.types.is_numeric_dtype(train[name])]
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, texts), remainder="passthrough")
    model = make_pipeline(columns, HistGradientBoostingClassifier(random_state=7))
    scores = model.fit(train, known).predict_proba(test)[:, 1]
    return float(roc_auc_score(wanted, scores))


def neighbours_accuracy(data: Path) -> float:
    """Return the accuracy of three nearest neighbours on the test files."""
    files = {k: Path(v) for k, v in mnist_files(data).items()}
    model = KNeighborsClassifier(3)
    model.fit(_idx(files["ingest.source.images"], 3), _idx(files["ingest.source.labels"], 1))
    tests = _idx(files["ingest.test_source.images"], 3)
    return float(model.score(tests, _idx(files["ingest.test_source.labels"], 1)))


CASES = {
    "census": Case("income", "auc", 0.925, census_files, boosted_auc),
    "mnist": Case("digit", "accuracy", 0.99, mnist_files, neighbours_accuracy),
}


def _table(path: Path) -> tuple[pd.DataFrame, pd.Series]:
    table = pd.read_csv(path, header=None, skipinitialspace=True, na_values="?")
    return table.iloc[:, :-1], table.iloc[:, -1].str.rstrip(".") == ">50K"


def _idx(path: Path, rank: int) -> np.ndarray:
    values = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, -1, IDX_HEADER_BYTES[rank])
    return values if rank == 1 else values.reshape(-1, 28 * 28).astype(np.float32)


def slipway(*arguments: str) -> None:
    subprocess.run([SLIPWAY, *arguments], cwd=ROOT, stdout=sys.stderr, check=True)


def in_service(name: str, home: Path, *settings: str) -> RunLayout:
    """Take a pipeline through Airflow into service, the first of its name, and return the run."""
    slipway("run", name, "--follow", *settings)
    pipeline = PipelineLayout(home / "artifacts", name)
    (folder,) = pipeline.runs.iterdir()
    run = pipeline.run(folder.name)
    outcome = Result.read(run.result("promote")).detail_as(DeployRecord).outcome
    assert outcome == "promoted", f"{name}: {outcome}"
    report_optimization(name, Result.read(run.result("optimize")).detail_as(OptimizeRecord))
    return run


def report_optimization(name: str, done: OptimizeRecord) -> None:
    """Say what the optimiser won, after a check that int8 was tried and judged by labels."""
    first, last = done.ledger[0], done.ledger[-1]
    (int8,) = (row for row in done.ledger if row.name == "quantize_weights")
    assert int8.metric is not None, f"{name}: {int8.reason}"
    assert int8.metric_difference is not None, f"{name}: no interval: {int8.reason}"
    assert first.metric is not None and last.metric is not None, f"{name}: {last.reason}"
    lost = 100 * (first.metric - last.metric)  # accuracy and AUC: more is better
    assert lost <= done.budget_percent, f"{name}: {lost:.2f} points lost, {done.budget_percent:g}"
    emit(f"{name}_optimized_size", last.size_bytes / KIB, first.size_bytes / KIB, None, "KiB")
    trial, plain = done.engine.trial, done.engine.measured[0]
    assert trial is not None, f"{name}: {done.engine.reason}"
    times = (trial.cpu_ms_batch_32, plain.cpu_ms_batch_32)
    emit(f"{name}_engine", *times, None, "CPU-ms/32 rows", engine=done.engine.name,
         int8_points=round(lost, 3), int8_was_kept=int8.is_kept)  # fmt: skip


def measure_model(name: str, case: Case, data: Path, home: Path) -> None:
    settings = [f"--set={key}={value}" for key, value in case.overrides(data).items()]
    run = in_service(name, home, *settings)
    blessed = Result.read(run.result("bless")).detail_as(BlessRecord)
    reached = blessed.metrics[case.head][case.metric].value
    emit(f"{name}_in_service_{case.metric}", reached, case.peer(data), case.goal, case.metric)


def measure_first_run(home: Path) -> None:
    """Act 1 of the demo; its peer is the same run without Airflow."""
    before, began = stack_cpu_seconds(home), time.monotonic()
    in_service("digits", home)
    wall, cpu = time.monotonic() - began, stack_cpu_seconds(home) - before
    slipway("teardown", "digits")
    before, began = stack_cpu_seconds(home) + children_cpu_seconds(), time.monotonic()
    slipway("run", "digits", "--local", "--deploy")
    peer_wall = time.monotonic() - began
    peer_cpu = stack_cpu_seconds(home) + children_cpu_seconds() - before
    emit("digits_first_run_wall", wall, peer_wall, MAX_FIRST_RUN_SECONDS, "s")
    emit("digits_first_run_cpu", cpu, peer_cpu, peer_cpu, "s")


def stack_cpu_seconds(home: Path) -> float:
    """Return what the services and everything they ever started have used."""
    supervisor = psutil.Process(int((home / "supervisor" / "supervisord.pid").read_text()))
    family = [supervisor, *supervisor.children(recursive=True)]
    return sum(sum(process.cpu_times()[:4]) for process in family)


def children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["digits", *CASES])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    chosen = parser.parse_args()
    chosen.data = chosen.data.resolve()
    if chosen.only != "digits" and not chosen.data.is_dir():
        parser.error(f"{chosen.data}: no data there; name its folder with --data")
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        os.environ["SLIPWAY_HOME"] = folder
        try:
            slipway("up")
            if chosen.only in (None, "digits"):
                measure_first_run(Path(folder))
            for name, case in CASES.items():
                if chosen.only in (None, name):
                    measure_model(name, case, chosen.data, Path(folder))
        finally:
            slipway("down")


if __name__ == "__main__":
    main()
