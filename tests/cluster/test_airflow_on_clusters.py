"""Whole runs in real Airflow, their components as pods of two real clusters."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow_stack import AirflowStack, running_airflow
from clusters import ROOT, TestCluster, wait_for

from contract.layout import RunLayout
from contract.records.evaluation import BlessRecord, EvaluateRecord
from contract.records.record import Result
from contract.records.training import TrainRecord
from operators.manifests import JOB

SHIPPED = ROOT / "configs" / "runtimes" / "kubernetes.yaml"
STEPS = ("ingest", "validate", "transform", "train", "evaluate", "bless")
LONG = {"train.steps": 100_000, "train.checkpoint_every_steps": 500}


@pytest.fixture(scope="module")
def stack(
    clusters: dict[str, TestCluster],
    components_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AirflowStack]:
    """One Airflow that runs pods of our image, with storage that both clusters mount.

    Its runtime file is the shipped one, but for what only a user can know.
    """
    folder = tmp_path_factory.mktemp("airflow-clusters")
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(0o755)
    root = folder / "home" / "artifacts"
    before = os.umask(0)  # the pods are not root: what this Airflow makes must be theirs to fill
    root.mkdir(parents=True)
    path = folder / "runtime.yaml"
    path.write_text(yaml.safe_dump(_runtime(clusters, components_image, root)))
    try:
        with running_airflow(folder, SLIPWAY_RUNTIME=str(path)) as started:
            yield started
    finally:
        os.umask(before)


def _runtime(clusters: dict[str, TestCluster], image: str, root: Path) -> dict[str, Any]:
    shipped: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    kubernetes = shipped["kubernetes"]
    shipped["root"] = str(root)
    kubernetes["clusters"] = {n: c.settings.model_dump(mode="json") for n, c in clusters.items()}
    kubernetes["volumes"] = [
        {"name": "storage", "mount_path": str(root), "host_path": str(root)},
    ]
    kubernetes["pod"] |= {"image": image, "image_pull_policy": "Never", "service_account": ""}
    kubernetes["pod"] |= {"cpu": "250m", "memory": "256Mi", "memory_limit": "3Gi"}
    kubernetes["pod"]["environment"] = {}
    kubernetes["steps"] = {}
    return shipped


@pytest.fixture(scope="module")
def two_runs(stack: AirflowStack) -> AirflowStack:
    """Two DAG runs at once: one to its end, and a long one for the faults."""
    stack.add("digits_pods")
    stack.add("digits_faults", schedule={"retries": 1, "retry_delay_seconds": 1.0})
    stack.trigger("digits_pods", "run-1", {}).raise_for_status()
    stack.trigger("digits_faults", "run-2", {"overrides": LONG}).raise_for_status()
    return stack


def pods_of(clusters: dict[str, TestCluster], run_id: str) -> dict[str, str]:
    """Return the step and cluster of every pod of a run: `{"train@train": "Running", ...}`."""
    return {
        f"{pod['metadata']['labels']['task_id']}@{name}": pod["status"]["phase"]
        for name, cluster in clusters.items()
        for pod in cluster.pods(f"run_id={run_id}").values()
    }


def test_the_digits_dag_runs_on_two_clusters_at_once(
    two_runs: AirflowStack, clusters: dict[str, TestCluster]
) -> None:
    stack, seen = two_runs, set[str]()

    def is_over() -> bool:
        running = {n for n, phase in pods_of(clusters, "run-1").items() if phase == "Running"}
        seen.update(running)
        if {"train@train", "evaluate@eval"} <= running:
            seen.add("side by side")
        return stack.get("/dags/digits_pods/dagRuns/run-1")["state"] in ("success", "failed")

    stack.wait(is_over, 700)
    states = stack.states("digits_pods", "run-1")
    bad = next((step for step in STEPS if states[step] != "success"), None)
    assert bad is None, stack.log("digits_pods", "run-1", str(bad))
    assert {f"{s}@train" for s in STEPS if s != "evaluate"} | {"evaluate@eval"} <= seen
    assert "side by side" in seen, "evaluation did not run beside training"
    run = stack.layout("digits_pods", "run-1")
    trained = Result.read(run.result("train")).detail_as(TrainRecord)
    judged = Result.read(run.result("evaluate")).detail_as(EvaluateRecord).steps
    assert judged == trained.checkpoints
    assert not Result.read(run.result("bless")).detail_as(BlessRecord).is_blessed
    assert "[chief-0]" in stack.log("digits_pods", "run-1", "train")
    wait_for(lambda: not pods_of(clusters, "run-1"), 30, "removal of all pods")


def pods_of_task(cluster: TestCluster, task_id: str) -> dict[str, Any]:
    return cluster.pods(f"run_id=run-2,task_id={task_id}")


@pytest.fixture(scope="module")
def training(two_runs: AirflowStack) -> RunLayout:
    """The long run, in the middle of its training."""
    run: RunLayout = two_runs.layout("digits_faults", "run-2")
    two_runs.wait(lambda: run.checkpoint_manifest(500).exists(), 700)
    return run


def test_a_killed_triggerer_and_a_silent_api_server_disturb_nothing(
    two_runs: AirflowStack, training: RunLayout, clusters: dict[str, TestCluster]
) -> None:
    stack, cluster = two_runs, clusters["train"]
    (before,) = pods_of_task(cluster, "train").values()
    stack.kill("airflow-triggerer")
    stack.start("airflow-triggerer")
    stack.wait(lambda: "adopted" in stack.log("digits_faults", "run-2", "train"), 120)
    newest = max(training.checkpoints.iterdir())
    with cluster.api_server_down():
        time.sleep(20)
        wait_for(lambda: max(training.checkpoints.iterdir()) > newest, 60, "going on alone")
    (after,) = pods_of_task(cluster, "train").values()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert stack.task("digits_faults", "run-2", "train")["state"] == "deferred"


def test_a_killed_evaluator_is_retried(
    two_runs: AirflowStack, training: RunLayout, clusters: dict[str, TestCluster]
) -> None:
    (name,) = pods_of_task(clusters["eval"], "evaluate")
    clusters["eval"].kill_container(name)
    two_runs.wait(
        lambda: two_runs.task("digits_faults", "run-2", "evaluate")["try_number"] == 2, 120
    )
    two_runs.wait(lambda: pods_of_task(clusters["eval"], "evaluate"), 60)


def test_clearing_a_task_removes_its_job_and_starts_another(
    two_runs: AirflowStack, training: RunLayout, clusters: dict[str, TestCluster]
) -> None:
    stack, cluster = two_runs, clusters["train"]
    (before,) = pods_of_task(cluster, "train")
    body = {"dry_run": False, "dag_run_id": "run-2", "task_ids": ["train"], "only_failed": False}
    body |= {"only_running": False, "reset_dag_runs": False}
    began = time.monotonic()
    stack.call("POST", "/dags/digits_faults/clearTaskInstances", json=body).raise_for_status()
    wait_for(lambda: before not in pods_of_task(cluster, "train"), 15, "removal after clearing")
    assert time.monotonic() - began < 10
    (after,) = wait_for(lambda: pods_of_task(cluster, "train"), 120, "the new generation")
    assert before.split("-g")[0] == after.split("-g")[0]
    assert before != after


def test_marking_a_task_as_failed_removes_its_pods_and_ends_the_evaluation(
    two_runs: AirflowStack, training: RunLayout, clusters: dict[str, TestCluster]
) -> None:
    stack, cluster = two_runs, clusters["train"]
    wait_for(lambda: pods_of_task(cluster, "train"), 60)
    path = "/dags/digits_faults/dagRuns/run-2/taskInstances/train"
    began = time.monotonic()
    stack.call("PATCH", path, json={"new_state": "failed"}).raise_for_status()
    wait_for(lambda: not pods_of_task(cluster, "train"), 15, "removal after a kill in the UI")
    assert time.monotonic() - began < 10
    assert not cluster.get("services", JOB)
    assert stack.await_end("digits_faults", "run-2") == "failed"
    states = stack.states("digits_faults", "run-2")
    assert (states["evaluate"], states["bless"]) == ("success", "upstream_failed")
