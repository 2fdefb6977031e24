"""Whole runs in real Airflow, their components as pods of two real clusters."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from airflow_side import PodWatch, add_slow, airflow_on, pods_of
from airflow_stack import AirflowStack
from clusters import TestCluster, host_pods, wait_for
from serving_side import ServingSide

from contract.layout import PipelineLayout, RunLayout
from contract.records.evaluation import EvaluateRecord
from contract.records.record import Result
from contract.records.traffic import DeployRecord
from contract.records.training import TrainRecord
from contract.steps import STEPS
from launching.cluster.manifests import JOB, REPLICA

ROW = [[0.0] * 8] * 8  # an image
# The goal, ten seconds, is for a machine that has time: bench_airflow_on_kubernetes.py measures it.
# Here two clusters and Airflow share two cores.
REMOVAL_SECONDS = 180
LONG = {"train.steps": 1_000_000, "train.checkpoint_every_steps": 200}
LONG |= {"evaluate.evaluators": 2}


@pytest.fixture(scope="module")
def stack(
    clusters: dict[str, TestCluster],
    components_image: str | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AirflowStack]:
    with airflow_on(clusters, tmp_path_factory.mktemp("airflow"), components_image) as started:
        yield started


@pytest.fixture(scope="module")
def side(stack: AirflowStack, clusters: dict[str, TestCluster]) -> ServingSide:
    """The agent and Envoy on cluster `eval`; their pods run this machine's Python."""
    layout = PipelineLayout(stack.folder / "home" / "artifacts", "digits_pods")
    made = ServingSide(clusters["eval"], layout)
    made.deploy(host_pods({"eval": clusters["eval"]}, layout.root))
    return made


@pytest.fixture(scope="module")
def first_pods(clusters: dict[str, TestCluster]) -> Iterator[PodWatch]:
    with PodWatch(clusters, "run-1") as watch:
        yield watch


@pytest.fixture(scope="module")
def two_runs(stack: AirflowStack, side: ServingSide, first_pods: PodWatch) -> AirflowStack:
    """Two DAG runs at once: one into service, and a long one for the faults."""
    quick = {"passes": ["freeze_graph", "grappler"], "engines": {"candidates": ["tensorflow"]}}
    stack.add("digits_pods", bless={"thresholds": {"accuracy": 0.3}}, optimize=quick)
    add_slow(stack, "digits_faults", schedule={"retries": 1, "retry_delay_seconds": 1.0})
    stack.trigger("digits_pods", "run-1", {}).raise_for_status()
    stack.trigger("digits_faults", "run-2", {"overrides": LONG}).raise_for_status()
    return stack


@pytest.mark.timeout(1500, func_only=True)
def test_the_digits_dag_runs_on_two_clusters_at_once_and_into_service(
    two_runs: AirflowStack,
    first_pods: PodWatch,
    side: ServingSide,
    clusters: dict[str, TestCluster],
) -> None:
    stack = two_runs
    assert stack.await_end("digits_pods", "run-1", 1200) in ("success", "failed")
    states = stack.states("digits_pods", "run-1")
    bad = next((step for step in STEPS if states[step] != "success"), None)
    assert bad is None, stack.log("digits_pods", "run-1", str(bad))
    where = {f"{step}@{'train' if step in tuple(STEPS)[:4] else 'eval'}" for step in STEPS}
    assert first_pods.is_watching
    assert first_pods.ran == where
    side_by_side = {"train@train", "evaluate@eval"}
    assert any(side_by_side <= at_once for at_once in first_pods.together)
    run = stack.layout("digits_pods", "run-1")
    trained = Result.read(run.result("train")).detail_as(TrainRecord)
    judged = Result.read(run.result("evaluate")).detail_as(EvaluateRecord).steps
    assert judged == trained.checkpoints
    assert "[chief-0]" in stack.log("digits_pods", "run-1", "train")
    wait_for(lambda: not pods_of(clusters, "run-1"), REMOVAL_SECONDS, "removal of all pods")
    with side.called(ROW) as callers:
        wait_for(lambda: callers.counted()["1"] > 10, 120, "answers of version 1")
    assert callers.failures() == {}


@pytest.mark.timeout(1200, func_only=True)
def test_a_second_version_walks_the_ladder_in_pods_while_callers_lose_nothing(
    two_runs: AirflowStack, side: ServingSide
) -> None:
    """The first version once more: packaged on the cluster, tried on its traffic, promoted."""
    overrides = {
        "deploy.ladder_percent": [25, 100],
        "deploy.shadow_requests": 50,
        "deploy.min_seconds_per_step": 2,
    }
    conf = {"redeploy_version": 1, "overrides": overrides}
    with side.called(ROW, pause=0.05) as callers:
        two_runs.trigger("digits_pods", "run-3", conf).raise_for_status()
        assert two_runs.await_end("digits_pods", "run-3", 900) == "success"
        decided = Result.read(two_runs.layout("digits_pods", "run-3").result("promote"))
        assert decided.detail_as(DeployRecord).outcome == "promoted", decided.reasons
        wait_for(lambda: side.client.plan("digits_pods").champion == 2, 120, "the new champion")
        before = callers.counted()["2"]
        wait_for(lambda: callers.counted()["2"] > before + 20, 120, "answers of version 2")
    assert callers.failures() == {}


def pods_of_task(cluster: TestCluster, task_id: str) -> dict[str, Any]:
    return cluster.pods(f"run_id=run-2,task_id={task_id}")


@pytest.fixture(scope="module")
def training(two_runs: AirflowStack) -> RunLayout:
    """The long run, in the middle of its training."""
    run: RunLayout = two_runs.layout("digits_faults", "run-2")
    two_runs.wait(lambda: run.checkpoints.is_dir() and any(run.checkpoints.iterdir()), 1000)
    return run


def test_airflows_crash_and_a_silent_api_server_disturb_nothing(
    two_runs: AirflowStack, training: RunLayout, clusters: dict[str, TestCluster]
) -> None:
    stack, cluster = two_runs, clusters["train"]
    (before,) = pods_of_task(cluster, "train").values()
    for name in ("airflow-scheduler", "airflow-triggerer"):
        stack.kill(name)
        stack.start(name)
    stack.wait(lambda: "adopted" in stack.log("digits_faults", "run-2", "train"), 300)
    newest = max(training.checkpoints.iterdir())
    with cluster.api_server_down():
        time.sleep(20)
        wait_for(lambda: max(training.checkpoints.iterdir()) > newest, 180, "going on alone")
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

    two_runs.wait(lambda: len(running()) == 2, 300)
    before = running()
    (name,) = (
        name
        for name, pod in pods_of_task(clusters["eval"], "evaluate").items()
        if pod["metadata"]["uid"] == before["evaluator-1"]
    )
    clusters["eval"].kill_container(name)
    two_runs.wait(lambda: running().get("evaluator-1", name) not in (name, *before.values()), 300)
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
    (after,) = wait_for(lambda: pods_of_task(cluster, "train"), 300, "the new generation")
    assert before.split("-g")[0] == after.split("-g")[0]
    assert before != after


def test_marking_a_task_as_failed_removes_its_pods_and_ends_the_evaluation(
    two_runs: AirflowStack, training: RunLayout, clusters: dict[str, TestCluster]
) -> None:
    stack, cluster = two_runs, clusters["train"]
    wait_for(lambda: pods_of_task(cluster, "train"), 300)
    path = "/dags/digits_faults/dagRuns/run-2/taskInstances/train"
    stack.call("PATCH", path, json={"new_state": "failed"}).raise_for_status()
    gone = REMOVAL_SECONDS
    wait_for(lambda: not pods_of_task(cluster, "train"), gone, "removal after a kill in the UI")
    assert not cluster.get("services", JOB)
    assert stack.await_end("digits_faults", "run-2") == "failed"
    states = stack.states("digits_faults", "run-2")
    assert (states["evaluate"], states["bless"]) == ("success", "upstream_failed")


def test_failing_a_run_removes_the_pod_of_its_component(
    two_runs: AirflowStack, clusters: dict[str, TestCluster]
) -> None:
    stack, run = two_runs, two_runs.layout("digits_asleep", "run-4")
    stack.add("digits_asleep")
    code = stack.pipelines / "digits_asleep" / "preprocessing.py"
    code.write_text("import time\n\ntime.sleep(300)\n" + code.read_text())
    stack.trigger("digits_asleep", "run-4", {}).raise_for_status()
    stack.wait(lambda: pods_of(clusters, "run-4").get("transform@train") == "Running", 240)
    path = "/dags/digits_asleep/dagRuns/run-4"
    stack.call("PATCH", path, json={"state": "failed"}).raise_for_status()
    wait_for(lambda: not pods_of(clusters, "run-4"), REMOVAL_SECONDS, "removal with the run")
    assert not run.result("transform").exists(), "it was killed, and did not just end"
    assert stack.states("digits_asleep", "run-4")["transform"] == "failed"
