"""`slipway check` against real API servers: each refusal names the object and the fix."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusters import TestCluster, host_pods
from typer.testing import CliRunner

from cli.checks.cluster_check import check_runtime
from cli.main import app
from contract.loader import load_pipeline
from contract.pipelines import find_pipeline
from contract.schema.cluster import KubernetesConfig, PodConfig
from contract.schema.runtime import RuntimeConfig
from contract.schema.training import TrainConfig
from launching.cluster.preflight import ClusterReport, cluster_reports

Up = dict[str, TestCluster]


def report(up: Up, folder: Path, train: Any = "single", **changes: Any) -> ClusterReport:
    """Ask about the cluster `train` alone."""
    kubernetes = host_pods(up, folder, **changes)
    return asyncio.run(cluster_reports(kubernetes, TrainConfig(strategy=train)))["train"]


def problems(up: Up, folder: Path, **changes: Any) -> str:
    return "\n".join(report(up, folder, **changes).problems)


def changed(clusters: Up, **changes: Any) -> dict[str, Any]:
    settings = clusters["train"].settings.model_copy(update=changes)
    return {"clusters": {"train": settings}}


def pod_with(clusters: Up, folder: Path, **changes: Any) -> dict[str, Any]:
    return {"pod": host_pods(clusters, folder).pod.model_copy(update=changes)}


def test_good_clusters_take_the_pods_of_every_step(clusters: Up, tmp_path: Path) -> None:
    kubernetes = host_pods(clusters, tmp_path, cluster_of={"evaluate": "eval"})
    good = ClusterReport(problems=[], warnings=[])
    found = asyncio.run(cluster_reports(kubernetes, TrainConfig()))
    assert found == {"train": good, "eval": good}


def with_expired_token(clusters: Up, folder: Path) -> dict[str, Any]:
    config = yaml.safe_load(Path(clusters["train"].kubeconfig).read_text())
    for user in config["users"]:
        user["user"] = {"token": "expired"}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return changed(clusters, kubeconfig=str(path))


def with_a_kind_that_is_not_installed(clusters: Up, folder: Path) -> dict[str, Any]:
    kind = host_pods(clusters, folder).job.model_copy(update={"kind": "pytorchjob"})
    # where no test installs Kubeflow's definitions
    return {"job": kind, "clusters": {"train": clusters["eval"].settings}}


def too_large(clusters: Up, folder: Path) -> dict[str, Any]:
    return pod_with(clusters, folder, gpus=8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda clusters, _: changed(clusters, context="trian"),
            "context 'trian': not in .*; did you mean 'train'",
        ),
        (with_expired_token, r"access denied \(401\): .* has expired; log in again"),
        (
            lambda clusters, _: changed(clusters, namespace="nowhere"),
            'namespaces "nowhere" not found',
        ),
        (
            too_large,
            "no node can ever give this: nvidia.com/gpu: asked for 8, the largest node offers",
        ),
        (
            lambda clusters, folder: pod_with(
                clusters, folder, template={"spec": {"contaners": 1}}
            ),
            "pod.template.spec.contaners: unknown key of PodSpec; did you mean 'containers'",
        ),
        (
            with_a_kind_that_is_not_installed,
            "cluster 'eval' has no pytorchjobs.kubeflow.org; install Kubeflow's",
        ),
    ],
    ids=["context", "token", "namespace", "node", "template", "kind"],
)
def test_each_error_of_the_clusters_names_the_object_and_the_fix(
    wrong: Callable[[Up, Path], dict[str, Any]],
    message: str,
    clusters: Up,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_runtime(monkeypatch, tmp_path, host_pods(clusters, tmp_path, **wrong(clusters, tmp_path)))
    config = load_pipeline(find_pipeline("digits"), {"train.strategy": "single"})
    errors = [found for found in check_runtime(config) if found.state == "error"]
    assert {found.subject for found in errors} == {"clusters"}
    assert any(re.search(message, found.message) for found in errors), errors


def test_the_command_tells_it_and_ends_in_exit_code_2(
    clusters: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_runtime(
        monkeypatch, tmp_path, host_pods(clusters, tmp_path, **too_large(clusters, tmp_path))
    )
    done = CliRunner().invoke(app, ["check", "digits", "--json", "--set", "train.strategy=single"])
    assert done.exit_code == 2
    errors = [f for f in json.loads(done.stdout) if f["state"] == "error"]
    assert {f["subject"] for f in errors} == {"clusters"}
    assert any("no node can ever give this" in f["message"] for f in errors), errors
    assert "slipway up" not in done.stdout  # the services of this machine are not the cluster's


def set_runtime(
    monkeypatch: pytest.MonkeyPatch, folder: Path, kubernetes: KubernetesConfig
) -> None:
    runtime = RuntimeConfig(kind="kubernetes", root=str(folder), kubernetes=kubernetes)
    path = folder / "runtime.yaml"
    path.write_text(yaml.safe_dump(runtime.model_dump(mode="json", exclude_unset=True)))
    monkeypatch.setenv("SLIPWAY_RUNTIME", str(path))


def test_where_no_node_can_ever_give_it_is_told(clusters: Up, tmp_path: Path) -> None:
    nowhere = pod_with(clusters, tmp_path, node_selector={"pool": "x"})
    assert "no node of the cluster has these labels" in problems(clusters, tmp_path, **nowhere)
    serving = {"steps": {"serve": PodConfig(gpus=8)}}
    assert problems(clusters, tmp_path, **serving).startswith("steps.serve: no node can ever")
    growing = changed(clusters, is_autoscaled=True)
    found = report(clusters, tmp_path, **growing, **nowhere)
    assert not found.problems
    assert "no node of the cluster has these labels" in found.warnings[0]


def test_an_affinity_that_no_node_meets_is_told(clusters: Up, tmp_path: Path) -> None:
    term = {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["x"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    template = {"spec": {"affinity": {"nodeAffinity": required}}}
    found = problems(clusters, tmp_path, pod=host_pods_with(clusters, tmp_path, template))
    assert "required node affinity (pool In (x)): no node of the cluster meets it" in found


def host_pods_with(clusters: Up, folder: Path, template: Any) -> PodConfig:
    return host_pods(clusters, folder).pod.merged(PodConfig(template=template))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"spec": {"containers": [{"name": "main", "tty": "maybe"}]}}, "tty"),
        ({"spec": {"dnsPolicy": "Sometimes"}}, "spec.dnsPolicy: Unsupported value"),
    ],
)
def test_what_the_api_server_does_not_take_is_refused(
    template: Any, message: str, clusters: Up, tmp_path: Path
) -> None:
    found = problems(clusters, tmp_path, **pod_with(clusters, tmp_path, template=template))
    assert message in found


def test_a_strategy_that_needs_another_kind_of_job_is_refused(clusters: Up, tmp_path: Path) -> None:
    assert "mpi on Kubernetes needs job.kind 'mpijob'" in problems(clusters, tmp_path, train="mpi")
