"""What Airflow costs a pipeline: reading 50 DAGs, and the hops between the steps of a run.

Run as `python tests/benchmarks/bench_airflow.py [--rounds N]`. The peers are made in the same run:
DAGs of the same shape whose tasks do nothing, read by the same Airflow and run on the same one.
Medians; the limits are the goals that README states.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]

from airflow_stack import AirflowStack, running_airflow  # noqa: E402
from support import emit  # noqa: E402

from contract.pipelines import find_pipeline  # noqa: E402
from contract.records.record import Result  # noqa: E402

PIPELINES = 50
MAX_READING_SECONDS = 1.0
MAX_OVERHEAD_RATIO = 1.2
JUDGED_STEPS = ("ingest", "validate", "transform", "train", "evaluate", "bless")

# The same tasks, groups apart; `bless` ends the run as a refused model does.
EMPTY_DAGS = """
from airflow.sdk import DAG, BaseOperator, SkipMixin

class Nothing(BaseOperator, SkipMixin):
    inherits_from_skipmixin = True

    def execute(self, context):
        if self.task_id == "bless":
            self.skip(context["ti"], context["task"].get_flat_relatives(upstream=False))

for number in range({count}):
    with DAG(f"empty_{{number}}", schedule=None, max_active_runs=1):
        make = lambda name: Nothing(task_id=name)
        start, ingest, validate, transform = map(make, ("start", "ingest", "validate", "transform"))
        train, evaluate, bless, optimize = map(make, ("train", "evaluate", "bless", "optimize"))
        package, canary, promote = map(make, ("package", "canary", "promote"))
        start >> ingest >> validate >> transform >> [train, evaluate] >> bless
        bless >> optimize >> package >> canary >> promote
        start >> package
"""

READ = """
import json, sys, time
import airflow.sdk
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
started, cpu = time.perf_counter(), time.process_time()
bag = DagBag(sys.argv[1])
for dag in bag.dags.values():
    DagSerialization.to_dict(dag)
print(json.dumps([len(bag.dags), time.perf_counter() - started, time.process_time() - cpu]))
"""


def reading_seconds(dag_file: Path, environment: dict[str, str], rounds: int) -> tuple[float, ...]:
    """Return wall and CPU seconds to read and serialise a DAG file, on top of importing Airflow."""
    seen = []
    for _ in range(rounds):
        command = [sys.executable, "-c", READ, str(dag_file)]
        done = subprocess.run(
            command, env=environment, cwd="/", capture_output=True, text=True, check=True
        )
        count, *seconds = json.loads(done.stdout.splitlines()[-1])
        assert count >= PIPELINES, f"only {count} DAGs were read"
        seen.append(seconds)
    return tuple(map(statistics.median, zip(*seen, strict=True)))


def measure_reading(folder: Path, rounds: int) -> None:
    source = yaml.safe_load((find_pipeline("digits") / "pipeline.yaml").read_text())
    for number in range(PIPELINES):
        pipeline = folder / "pipelines" / f"copy_{number}"
        pipeline.mkdir(parents=True)
        config = yaml.safe_dump({**source, "name": pipeline.name})
        (pipeline / "pipeline.yaml").write_text(config)
    empty = folder / "empty.py"
    empty.write_text(EMPTY_DAGS.format(count=PIPELINES))
    own = {"PYTHONPATH": str(ROOT), "AIRFLOW_HOME": str(folder / "airflow")}
    own["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "CRITICAL"
    environment = {**os.environ, **own, "SLIPWAY_PIPELINES": str(folder / "pipelines")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # services read compiled modules
    ours = reading_seconds(ROOT / "dags" / "pipelines.py", environment, rounds)
    peer = reading_seconds(empty, environment, rounds)
    for kind, mine, theirs in zip(("wall", "cpu"), ours, peer, strict=True):
        name = f"dags_read_and_serialised_{PIPELINES}_pipelines_{kind}"
        emit(name, mine, theirs, MAX_READING_SECONDS, "s")


def run_seconds(stack: AirflowStack, dag_id: str, run_id: str) -> float:
    stack.trigger(dag_id, run_id, {}).raise_for_status()
    state = stack.await_end(dag_id, run_id, 900)
    assert state == "success", f"{dag_id} {run_id}: {state}"
    run = stack.get(f"/dags/{dag_id}/dagRuns/{run_id}")
    started, ended = (datetime.fromisoformat(run[key]) for key in ("start_date", "end_date"))
    return (ended - started).total_seconds()


def recorded_seconds(stack: AirflowStack, run_id: str) -> float:
    """Return the components' own time, by their records: from the claim to the result."""
    run = stack.layout("measured", run_id)
    return chained({step: Result.read(run.result(step)).seconds for step in JUDGED_STEPS})


def process_seconds(stack: AirflowStack, run_id: str) -> float:
    """Return the time of the components' processes: with Python's start and imports."""
    path = f"/dags/measured/dagRuns/{run_id}/taskInstances"
    entries = {
        step: stack.get(f"{path}/{step}/xcomEntries/summary", stringify=False)["value"]
        for step in JUDGED_STEPS
    }
    return chained({step: entry["seconds"] for step, entry in entries.items()})


def chained(seconds: dict[str, float]) -> float:
    """Return the sum; of training and evaluation, which run side by side, only the longer."""
    beside = max(seconds.pop("train"), seconds.pop("evaluate"))
    return sum(seconds.values()) + beside


def measure_chain(folder: Path, rounds: int) -> None:
    dags = folder / "empty-dags"
    dags.mkdir(parents=True)
    (dags / "empty.py").write_text(EMPTY_DAGS.format(count=1))
    with running_airflow(folder, **bundles(ROOT / "dags", dags)) as stack:
        stack.add("measured")
        stack.wait(lambda: stack.call("GET", "/dags/empty_0").is_success, 120)
        names = [f"round-{number}" for number in range(rounds)]
        walls = {name: run_seconds(stack, "measured", name) for name in names}
        peer = statistics.median(run_seconds(stack, "empty_0", name) for name in names)
        for kind, work in (("records", recorded_seconds), ("processes", process_seconds)):
            ours = statistics.median(wall - work(stack, name) for name, wall in walls.items())
            emit(f"chain_overhead_over_{kind}", ours, peer, MAX_OVERHEAD_RATIO * peer, "s")


def bundles(*folders: Path) -> dict[str, str]:
    """Return the Airflow setting that makes these folders its DAG folders."""
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    entries: list[dict[str, Any]] = [
        {"name": folder.name, "classpath": local, "kwargs": {"path": str(folder)}}
        for folder in folders
    ]
    return {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(entries)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("reading", "chain"))
    chosen = parser.parse_args()
    measures: dict[str, Callable[[Path, int], None]] = {
        "reading": measure_reading,
        "chain": measure_chain,
    }
    for name, measure in measures.items():
        if chosen.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
                measure(Path(folder), chosen.rounds)


if __name__ == "__main__":
    main()
