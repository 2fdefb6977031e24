"""Whole runs in real Airflow, their components as pods of two real clusters."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow_stack import AirflowStack, running_airflow
from clusters import ROOT, TestCluster, host_pods, wait_for
from serving_side import Callers, ServingSide

from contract.layout import STEPS, PipelineLayout, RunLayout
from contract.records.evaluation import EvaluateRecord
from contract.records.record import Result
from contract.records.traffic import DeployRecord
from contract.records.training import TrainRecord
from operators.manifests import JOB, REPLICA

SHIPPED = ROOT / "configs" / "runtimes" / "kubernetes.yaml"
ROW = [[0.0] * 8] * 8  # an image
# The goal, ten seconds, is for a machine that has time: bench_kubernetes.py measures it. Here two
# clusters, Airflow and two runs share two cores.
REMOVAL_SECONDS = 45
LONG = {"train.steps": 1_000_000, "train.checkpoint_every_steps": 3000}
LONG |= {"evaluate.evaluators": 2}


@pytest.fixture(scope="module")
def stack(
    clusters: dict[str, TestCluster],
    components_image: str | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AirflowStack]:
    """One Airflow that runs pods, with storage that both clusters mount.

    Its runtime file is the shipped one, but for what only a user can know.
    """
    folder = tmp_path_factory.mktemp("airflow-clusters")
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(0o755)
    root = folder / "home" / "artifacts"
    before = os.umask(0)  # the pods are not root: what this Airflow makes must be theirs to fill
    root.mkdir(parents=True)
    path = folder / "runtime.yaml"
    shipped: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    shipped["root"] = str(root)
    shipped["kubernetes"] |= _kubernetes(clusters, components_image, root, shipped["kubernetes"])
    path.write_text(yaml.safe_dump(shipped))
    try:
        with running_airflow(folder, SLIPWAY_RUNTIME=str(path)) as started:
            yield started
    finally:
        os.umask(before)


def _kubernetes(
    clusters: dict[str, TestCluster], image: str | None, root: Path, shipped: dict[str, Any]
) -> dict[str, Any]:
    """Return what differs from the shipped file; without an image, pods run this Python."""
    host = host_pods(clusters, root).model_dump(mode="json", exclude_unset=True)
    agent = f"http://slipway-agent.{clusters['eval'].namespace}.svc:8600"
    environment = shipped["pod"]["environment"] | {"SLIPWAY_AGENT_URL": agent}
    del environment["MLFLOW_TRACKING_URI"]
    pod = shipped["pod"] | {"service_account": "", "environment": environment}
    pod |= {"cpu": "250m", "memory": "256Mi", "memory_limit": "3Gi"}
    volumes = [{"name": "storage", "mount_path": str(root), "host_path": str(root)}]
    if image is not None:
        pod |= {"image": image, "image_pull_policy": "Never"}
    else:
        pod |= {key: host["pod"][key] for key in ("image", "image_pull_policy", "python")}
        pod["environment"] = environment | host["pod"]["environment"]
        spec = pod["template"]["spec"]
        del spec["securityContext"]  # this Python is not everybody's
        spec["containers"][0]["workingDir"] = str(ROOT)
        volumes = host["volumes"]
    # the long training must leave the two cores to the rest of the test
    roles = shipped["roles"] | {"chief": {"cpu_limit": "700m"}}
    clusters_of_test = {"clusters": host["clusters"], "volumes": volumes}
    return {**clusters_of_test, "pod": pod, "steps": {}, "roles": roles}


@pytest.fixture(scope="module")
def side(stack: AirflowStack, clusters: dict[str, TestCluster]) -> ServingSide:
    """The agent and Envoy on cluster `eval`; their pods run this machine's Python."""
    layout = PipelineLayout(stack.folder / "home" / "artifacts", "digits_pods")
    made = ServingSide(clusters["eval"], layout)
    made.deploy(host_pods({"eval": clusters["eval"]}, layout.root))
    return made


@pytest.fixture(scope="module")
def two_runs(stack: AirflowStack, side: ServingSide) -> AirflowStack:
    """Two DAG runs at once: one into service, and a long one for the faults."""
    quick = {"passes": ["freeze_graph", "grappler"], "runtimes": {"candidates": ["tensorflow"]}}
    stack.add("digits_pods", bless={"thresholds": {"accuracy": 0.3}}, optimize=quick)
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


@pytest.mark.timeout(1500, func_only=True)
def test_the_digits_dag_runs_on_two_clusters_at_once_and_into_service(
    two_runs: AirflowStack, side: ServingSide, clusters: dict[str, TestCluster]
) -> None:
    stack, seen = two_runs, set[str]()

    def is_over() -> bool:
        running = {n for n, phase in pods_of(clusters, "run-1").items() if phase == "Running"}
        seen.update(running)
        if {"train@train", "evaluate@eval"} <= running:
            seen.add("side by side")
        return stack.get("/dags/digits_pods/dagRuns/run-1")["state"] in ("success", "failed")

    stack.wait(is_over, 1200)
    states = stack.states("digits_pods", "run-1")
    bad = next((step for step in STEPS if states[step] != "success"), None)
    assert bad is None, stack.log("digits_pods", "run-1", str(bad))
    assert {f"{step}@{'train' if step in tuple(STEPS)[:4] else 'eval'}" for step in STEPS} <= seen
    assert "side by side" in seen, "evaluation did not run beside training"
    run = stack.layout("digits_pods", "run-1")
    trained = Result.read(run.result("train")).detail_as(TrainRecord)
    judged = Result.read(run.result("evaluate")).detail_as(EvaluateRecord).steps
    assert judged == trained.checkpoints
    assert "[chief-0]" in stack.log("digits_pods", "run-1", "train")
    wait_for(lambda: not pods_of(clusters, "run-1"), 30, "removal of all pods")
    with Callers(side, ROW) as callers:
        wait_for(lambda: callers.counted()["1"] > 10, 30, "answers of version 1")
    assert callers.failures() == {}


@pytest.mark.timeout(1200, func_only=True)
def test_a_second_version_walks_the_ladder_in_pods_while_callers_lose_nothing(
    two_runs: AirflowStack, side: ServingSide
) -> None:
    """The first version once more: packaged on the cluster, tried on its traffic, promoted."""
    overrides = {"deploy.ladder_percent": [25, 100], "deploy.shadow_requests": 50}
    conf = {"redeploy_version": 1, "overrides": overrides}
    with Callers(side, ROW) as callers:
        two_runs.trigger("digits_pods", "run-3", conf).raise_for_status()
        assert two_runs.await_end("digits_pods", "run-3", 900) == "success"
        decided = Result.read(two_runs.layout("digits_pods", "run-3").result("promote"))
        assert decided.detail_as(DeployRecord).outcome == "promoted", decided.reasons
        wait_for(lambda: side.client.plan("digits_pods").champion == 2, 30, "the new champion")
        before = callers.counted()["2"]
        wait_for(lambda: callers.counted()["2"] > before + 20, 30, "answers of version 2")
    assert callers.failures() == {}


def pods_of_task(cluster: TestCluster, task_id: str) -> dict[str, Any]:
    return cluster.pods(f"run_id=run-2,task_id={task_id}")


@pytest.fixture(scope="module")
def training(two_runs: AirflowStack) -> RunLayout:
    """The long run, in the middle of its training."""
    run: RunLayout = two_runs.layout("digits_faults", "run-2")
    two_runs.wait(lambda: run.checkpoints.is_dir() and any(run.checkpoints.iterdir()), 700)
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


def test_a_killed_evaluator_is_replaced_alone(
    two_runs: AirflowStack, training: RunLayout, clusters: dict[str, TestCluster]
) -> None:
    def running() -> dict[str, str]:
        pods = pods_of_task(clusters["eval"], "evaluate")
        return {
            pod["metadata"]["labels"][REPLICA]: pod["metadata"]["uid"]
            for pod in pods.values()
            if pod["status"]["phase"] == "Running"
        }

    two_runs.wait(lambda: len(running()) == 2, 120)
    before = running()
    (name,) = (
        name
        for name, pod in pods_of_task(clusters["eval"], "evaluate").items()
        if pod["metadata"]["uid"] == before["evaluator-1"]
    )
    clusters["eval"].kill_container(name)
    two_runs.wait(lambda: running().get("evaluator-1", name) not in (name, *before.values()), 120)
    assert running()["evaluator-0"] == before["evaluator-0"]
    task = two_runs.task("digits_faults", "run-2", "evaluate")
    assert (task["state"], task["try_number"]) == ("deferred", 1)


def test_clearing_a_task_removes_its_job_and_starts_another(
    two_runs: AirflowStack, training: RunLayout, clusters: dict[str, TestCluster]
) -> None:
    stack, cluster = two_runs, clusters["train"]
    (before,) = pods_of_task(cluster, "train")
    body = {"dry_run": False, "dag_run_id": "run-2", "task_ids": ["train"], "only_failed": False}
    body |= {"only_running": False, "reset_dag_runs": False}
    stack.call("POST", "/dags/digits_faults/clearTaskInstances", json=body).raise_for_status()
    gone = REMOVAL_SECONDS
    wait_for(lambda: before not in pods_of_task(cluster, "train"), gone, "removal after clearing")
    (after,) = wait_for(lambda: pods_of_task(cluster, "train"), 120, "the new generation")
    assert before.split("-g")[0] == after.split("-g")[0]
    assert before != after


def test_marking_a_task_as_failed_removes_its_pods_and_ends_the_evaluation(
    two_runs: AirflowStack, training: RunLayout, clusters: dict[str, TestCluster]
) -> None:
    stack, cluster = two_runs, clusters["train"]
    wait_for(lambda: pods_of_task(cluster, "train"), 60)
    path = "/dags/digits_faults/dagRuns/run-2/taskInstances/train"
    stack.call("PATCH", path, json={"new_state": "failed"}).raise_for_status()
    gone = REMOVAL_SECONDS
    wait_for(lambda: not pods_of_task(cluster, "train"), gone, "removal after a kill in the UI")
    assert not cluster.get("services", JOB)
    assert stack.await_end("digits_faults", "run-2") == "failed"
    states = stack.states("digits_faults", "run-2")
    assert (states["evaluate"], states["bless"]) == ("success", "upstream_failed")
