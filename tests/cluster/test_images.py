"""Our images alone, from raw data into service: the walk of docs/kubernetes.md in one cluster.

Airflow, components, agent, Envoys and model servers run as the manifests say: with their accounts
and rights, as users, on read-only roots. Building takes half an hour and is done on request only.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusters import ROOT, TestCluster, kustomized, wait_for
from images import loaded_image
from serving_side import TOKENS, ServingSide

from contract.layout import PipelineLayout

SHIPPED = ROOT / "configs" / "runtimes" / "kubernetes.yaml"
IMAGES = ("components", "serving", "orchestrator")
ROW = [[0.0] * 8] * 8  # an image


@pytest.fixture(scope="module")
def installed(
    clusters: dict[str, TestCluster], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestCluster]:
    """Slipway in cluster `eval`, from the manifests, on images of this checkout."""
    cluster = clusters["eval"]
    folder = tmp_path_factory.mktemp("images")
    tags = {
        f"localhost/slipway-{name}:1": loaded_image(name, {"eval": cluster}, folder)
        for name in IMAGES
    }
    install(cluster, tags)
    yield cluster
    for kind in ("deployment", "service"):
        cluster.kubectl("delete", kind, "--all", "--wait=false")


def install(cluster: TestCluster, tags: dict[str, str]) -> None:
    """Do what docs/kubernetes.md tells its reader, in this test's namespace."""

    def here(text: str) -> str:
        for shipped, own in tags.items():
            text = text.replace(shipped, own)
        return text.replace("slipway.svc", f"{cluster.namespace}.svc")

    def apply(body: dict[str, Any]) -> None:
        if body["kind"] != "Namespace":
            body["metadata"]["namespace"] = cluster.namespace
            for subject in body.get("subjects", ()):
                subject["namespace"] = cluster.namespace
            cluster.apply(json.loads(here(json.dumps(body))))

    for body in kustomized("base"):
        apply(body)
    own_storage(cluster, tags["localhost/slipway-components:1"])
    runtime = runtime_here(yaml.safe_load(here(SHIPPED.read_text())), cluster.namespace)
    content = {"runtime.yaml": yaml.safe_dump(runtime)}
    apply(named("ConfigMap", "slipway-runtime") | {"data": content})
    apply(named("Secret", "slipway-agent") | {"stringData": TOKENS})
    apply(named("Secret", "slipway-airflow") | {"stringData": {"jwt-secret": "s" * 64}})
    for folder in ("serving", "airflow"):
        for body in kustomized(folder):
            apply(body)


def named(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}


def runtime_here(shipped: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Return the shipped runtime file for one small cluster without MLflow."""
    kubernetes = shipped["kubernetes"]
    kubernetes["clusters"] = {name: {"namespace": namespace} for name in kubernetes["clusters"]}
    kubernetes["pod"] |= {"cpu": "200m", "memory": "512Mi", "memory_limit": "3Gi"}
    del kubernetes["pod"]["environment"]["MLFLOW_TRACKING_URI"]
    del kubernetes["steps"]["ingest"]
    return shipped


def own_storage(cluster: TestCluster, image: str) -> None:
    """Give the volume to the images' user, as whoever exports it does."""
    container = {
        "name": "own",
        "image": image,
        "command": ["chown", "10001:10001", "/slipway"],
        "volumeMounts": [{"name": "storage", "mountPath": "/slipway"}],
    }
    volume = {"name": "storage", "persistentVolumeClaim": {"claimName": "slipway-storage"}}
    user = {"runAsUser": 0}
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
    cluster.apply(named("Pod", "own") | {"spec": spec | {"securityContext": user}})
    wait_for(lambda: cluster.pods()["own"]["status"]["phase"] == "Succeeded", 120, "the volume")


@pytest.mark.images
@pytest.mark.timeout(2400, func_only=True)
def test_the_digits_go_from_raw_data_into_service_on_our_images_alone(
    installed: TestCluster,
) -> None:
    cluster = installed
    side = ServingSide(cluster, PipelineLayout(Path("/slipway/artifacts"), "digits"))

    def in_airflow(*words: str) -> str:
        command = ("exec", "deploy/airflow", "-c", "scheduler", "--", *words)
        return cluster.kubectl(*command, is_checked=False)

    def airflow(*words: str) -> str:
        return in_airflow("airflow", *words)

    wait_for(lambda: side.ready("airflow") == 1, 300, "Airflow")
    side.connect()
    wait_for(lambda: '"dag_id": "digits"' in airflow("dags", "list", "-o", "json"), 180, "the DAG")
    said = airflow("dags", "trigger", "digits", "--run-id", "run-1")
    assert "run-1" in said, said

    def state() -> str:
        said = airflow("dags", "list-runs", "digits", "-o", "json")
        runs = json.loads(said[said.find("[{") :] if "[{" in said else "[]")  # after log lines
        return next((run["state"] for run in runs if run["run_id"] == "run-1"), "")

    wait_for(lambda: state() in ("success", "failed"), 1500, "the run's end")
    logs = "tail -n 40 $(ls -t /airflow/logs/dag_id=digits/run_id=run-1/*/*.log | head -3)"
    assert state() == "success", in_airflow("sh", "-c", logs)
    assert side.client.plan("digits").champion == 1
    with side.called(ROW) as callers:
        wait_for(lambda: callers.counted()["1"] > 50, 60, "answers of version 1")
    assert callers.failures() == {}
    for app in ("slipway-agent", "slipway-envoy", "airflow"):
        for pod in cluster.pods(f"app={app}").values():
            assert pod["spec"]["securityContext"]["runAsUser"] == 10001
