"""A training job of real Airflow in pods: its start, its loss in the UI, its calls, its recovery.

Needs clusters (see tests/cluster/clusters.py). Run as
`python tests/benchmarks/bench_airflow_on_kubernetes.py [--rounds N]`. Prints JSON lines, first the
version of Kubernetes. The job asks for a GPU; a step takes a twentieth of a second, and a
checkpoint comes every two seconds. Recovery is how long training stood still: the longest time
between checkpoints around the fault, less the usual one. Calls are counted by a proxy between
Airflow and the training cluster.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))
sys.path.insert(1, str(Path(__file__).parents[1] / "cluster"))
sys.path.insert(1, str(Path(__file__).parents[1] / "e2e"))

import pytest
import yaml
from airflow_side import add_slow, airflow_on
from airflow_stack import AirflowStack
from clusters import TestCluster, clusters_up, evict, wait_for
from support import emit

from contract.layout import RunLayout
from contract.records.training import CheckpointManifest

PIPELINE, RUN = "measured", "run-1"
EVERY = 40  # steps between checkpoints
LONG = {"train.steps": 1_000_000, "train.checkpoint_every_steps": EVERY}
LONG |= {"train.keep_checkpoints": 1000}
OUTAGE_SECONDS, COUNTED_SECONDS = 20.0, 120.0


@contextlib.contextmanager
def counted(cluster: TestCluster, folder: Path) -> Iterator[tuple[Path, Callable[[], int]]]:
    """Yield a kubeconfig that leads through a proxy, and how many calls went through it so far."""
    log = folder / "proxy.log"
    command = ["kubectl", "--kubeconfig", cluster.kubeconfig, "--context", cluster.context]
    command += ["proxy", "--port=0", "--v=6"]
    with log.open("w") as out:
        proxy = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        said = wait_for(lambda: "Starting to serve on " in log.read_text() and log.read_text(), 20)
        address = said.partition("Starting to serve on ")[2].split()[0]
        name = cluster.context
        config = {"apiVersion": "v1", "kind": "Config", "current-context": name}
        config |= {"clusters": [{"name": name, "cluster": {"server": f"http://{address}"}}]}
        config |= {"users": [{"name": name, "user": {}}]}
        config |= {"contexts": [{"name": name, "context": {"cluster": name, "user": name}}]}
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        yield path, lambda: log.read_text().count("/api/v1/namespaces/")
    finally:
        proxy.kill()
        proxy.wait()


class Training:
    """The job of the running DAG."""

    def __init__(self, stack: AirflowStack, up: dict[str, TestCluster]) -> None:
        self.stack, self.up = stack, up
        self.run: RunLayout = stack.layout(PIPELINE, RUN)

    def checkpoints(self) -> list[float]:
        """Return when each checkpoint was written, in order."""
        paths = sorted(self.run.checkpoints.glob("*/manifest.json"))
        return [CheckpointManifest.read(path).written_at.timestamp() for path in paths]

    def pods(self, task: str = "train", cluster: str = "train") -> list[str]:
        return list(self.up[cluster].pods(f"run_id={RUN},task_id={task}"))

    def started(self) -> float:
        task = self.stack.task(PIPELINE, RUN, "train")
        return datetime.fromisoformat(task["start_date"]).timestamp()

    def await_training(self, since: float) -> list[float]:
        """Wait for three checkpoints after a moment, and return when they were written."""

        def after() -> list[float]:
            return [at for at in self.checkpoints() if at > since]

        wait_for(lambda: len(after()) >= 3, 300, "training")
        return after()

    def standstill(self, fault: Callable[[], None]) -> float:
        """Do it, and return for how long training stood still."""
        began = time.time() - 5
        fault()
        self.await_training(time.time() + 2)
        written = [at for at in self.checkpoints() if at > began]
        gaps = [later - earlier for earlier, later in pairwise(written)]
        return max(gaps) - statistics.median(gaps)


def kill_in_the_ui(training: Training) -> float:
    """Mark the task as failed; return the seconds until its pod, and so its GPU, is gone."""
    path = f"/dags/{PIPELINE}/dagRuns/{RUN}/taskInstances/train"
    began = time.monotonic()
    training.stack.call("PATCH", path, json={"new_state": "failed"}).raise_for_status()
    wait_for(lambda: not training.pods(), 120, "the end of the pod")
    return time.monotonic() - began


def start_again(training: Training) -> None:
    body = {"dry_run": False, "dag_run_id": RUN, "task_ids": ["train", "evaluate"]}
    body |= {"only_failed": False, "reset_dag_runs": True}
    path = f"/dags/{PIPELINE}/clearTaskInstances"
    training.stack.call("POST", path, json=body).raise_for_status()


def measure_start(training: Training) -> None:
    training.stack.trigger(PIPELINE, RUN, {"overrides": LONG}).raise_for_status()
    first, second, *_ = training.await_training(0)
    seconds = first - (second - first) - training.started()
    emit("task_start_to_first_step_in_pods", seconds, None, None, "s")


def measure_calls(training: Training, calls: Callable[[], int]) -> None:
    before = calls()
    time.sleep(COUNTED_SECONDS)
    emit("api_calls_of_a_running_job", 60 * (calls() - before) / COUNTED_SECONDS, None, 10, "/min")


def measure_recovery(training: Training) -> None:
    stack, cluster = training.stack, training.up["train"]

    def silence() -> None:
        with cluster.api_server_down():
            time.sleep(OUTAGE_SECONDS)

    def crash() -> None:
        stack.kill("airflow-triggerer")
        stack.start("airflow-triggerer")
        before = stack.log(PIPELINE, RUN, "train").count("adopted")
        stack.wait(lambda: stack.log(PIPELINE, RUN, "train").count("adopted") > before, 120)

    faults: dict[str, Callable[[], None]] = {
        "killed_chief": lambda: cluster.kill_container(training.pods()[0]),
        "evicted_chief": lambda: evict(cluster, training.pods()[0]),
        "api_server_away_20_seconds": silence,
        "killed_triggerer": crash,
    }
    for name, fault in faults.items():
        emit(f"training_stands_still_{name}", training.standstill(fault), None, None, "s")


def measure_evaluator(training: Training) -> None:
    """From the kill of the evaluator to its successor's running pod."""
    (before,) = training.pods("evaluate", "eval")
    training.up["eval"].kill_container(before)
    began = time.monotonic()

    def is_back() -> bool:
        pods = training.up["eval"].pods(f"run_id={RUN},task_id=evaluate")
        return any(n != before and p["status"]["phase"] == "Running" for n, p in pods.items())

    wait_for(is_back, 120, "another evaluator")
    emit("killed_evaluator_to_its_successor", time.monotonic() - began, None, None, "s")


def measure_kills(training: Training, rounds: int) -> None:
    seconds = []
    for number in range(rounds):
        if number:
            again = time.time()
            start_again(training)
            training.await_training(again)
        seconds.append(kill_in_the_ui(training))
    more = {"slowest": max(seconds), "rounds": rounds}
    emit("ui_kill_to_gpu_free", statistics.median(seconds), None, 10, "s", **more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="kills in the UI")
    rounds = parser.parse_args().rounds
    with (
        tempfile.TemporaryDirectory() as name,
        clusters_up(("train", "eval")) as up,
        counted(up["train"], Path(name)) as (kubeconfig, calls),
    ):
        version: dict[str, Any] = json.loads(up["train"].kubectl("version", "-o", "json"))
        server = version["serverVersion"]["gitVersion"]
        print(json.dumps({"name": "kubernetes", "version": server}), flush=True)
        folder = Path(name) / "airflow"
        folder.mkdir()
        settings = {n: c.settings.model_dump(exclude_unset=True) for n, c in up.items()}
        settings["train"]["kubeconfig"] = str(kubeconfig)
        roles = {"chief": {"gpus": 1}}
        with airflow_on(up, folder, clusters=settings, roles=roles) as stack:
            add_slow(stack, PIPELINE, schedule={"retries": 1, "retry_delay_seconds": 1.0})
            training = Training(stack, up)
            measure_start(training)
            measure_calls(training, calls)
            measure_recovery(training)
            measure_evaluator(training)
            measure_kills(training, rounds)


if __name__ == "__main__":
    try:
        main()
    except pytest.skip.Exception as reason:
        print(json.dumps({"name": "airflow_on_kubernetes", "skipped": str(reason)}))
