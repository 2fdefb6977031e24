"""`slipway check` against real API servers: each refusal names the object and the fix."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from clusters import ROOT, TestCluster, host_pods

from contract.schema.runtime import RuntimeConfig
from contract.schema.training import TrainConfig
from operators.launchers.preflight import cluster_problems


def check(
    up: dict[str, TestCluster], folder: Path, train: str = "single", **changes: Any
) -> tuple[int, list[str]]:
    """Run the command and return its exit code and what it says of runtime and clusters."""
    runtime = RuntimeConfig(
        kind="kubernetes", root=str(folder), kubernetes=host_pods(up, folder, **changes)
    )
    path = folder / "runtime.yaml"
    path.write_text(yaml.safe_dump(runtime.model_dump(mode="json", exclude_unset=True)))
    environment = {**os.environ, "SLIPWAY_RUNTIME": str(path), "SLIPWAY_HOME": str(folder)}
    command = [sys.executable, "-m", "cli.main", "check", "digits", "--json"]
    command += ["--set", f"train.strategy={train}"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    findings = json.loads(done.stdout)
    said = [f["message"] for f in findings if f["subject"] in ("runtime", "clusters")]
    return done.returncode, said


def problems(up: dict[str, TestCluster], folder: Path, **changes: Any) -> str:
    """Ask the same of the cluster `train` alone, without a process of its own."""
    train = TrainConfig(strategy=changes.pop("train", "single"))
    kubernetes = host_pods(up, folder, **changes)
    (found,) = [
        problems
        for name, problems in asyncio.run(cluster_problems(kubernetes, train)).items()
        if name == "train"
    ]
    return "\n".join(found)


def changed(clusters: dict[str, TestCluster], **changes: Any) -> dict[str, Any]:
    settings = clusters["train"].settings.model_copy(update=changes)
    return {"clusters": {"train": settings}}


def pod_with(clusters: dict[str, TestCluster], folder: Path, **changes: Any) -> dict[str, Any]:
    return {"pod": host_pods(clusters, folder).pod.model_copy(update=changes)}


def test_good_clusters_take_the_pods_of_every_step(
    clusters: dict[str, TestCluster], tmp_path: Path
) -> None:
    kubernetes = host_pods(clusters, tmp_path, cluster_of={"evaluate": "eval"})
    assert asyncio.run(cluster_problems(kubernetes, TrainConfig())) == {"train": [], "eval": []}


def test_a_wrong_context_is_named_with_those_there_are(
    clusters: dict[str, TestCluster], tmp_path: Path
) -> None:
    found = problems(clusters, tmp_path, **changed(clusters, context="trian"))
    assert "context 'trian': not in" in found
    assert "did you mean 'train'?" in found
    code, said = check(clusters, tmp_path, **changed(clusters, context="trian"))
    assert code == 2
    assert "did you mean 'train'?" in said[0]


def test_an_expired_token_is_told_from_a_missing_right(
    clusters: dict[str, TestCluster], tmp_path: Path
) -> None:
    config = yaml.safe_load(Path(clusters["train"].kubeconfig).read_text())
    for user in config["users"]:
        user["user"] = {"token": "expired"}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    found = problems(clusters, tmp_path, **changed(clusters, kubeconfig=str(path)))
    assert "not let in (401)" in found
    assert "expired; log in again" in found


def test_an_unknown_namespace_is_named(clusters: dict[str, TestCluster], tmp_path: Path) -> None:
    found = problems(clusters, tmp_path, **changed(clusters, namespace="nowhere"))
    assert 'namespaces "nowhere" not found' in found


def test_what_no_node_can_ever_give_is_refused(
    clusters: dict[str, TestCluster], tmp_path: Path
) -> None:
    found = problems(clusters, tmp_path, **pod_with(clusters, tmp_path, gpus=8))
    assert "no node can ever give this: nvidia.com/gpu: asked for 8, the largest" in found
    nowhere = pod_with(clusters, tmp_path, node_selector={"pool": "x"})
    assert "no node of the cluster has these labels" in problems(clusters, tmp_path, **nowhere)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            {"spec": {"contaners": []}},
            "pod.template.spec.contaners: unknown key of PodSpec; did you mean 'containers'?",
        ),
        ({"spec": {"containers": [{"name": "main", "tty": "maybe"}]}}, "tty"),
        ({"spec": {"dnsPolicy": "Sometimes"}}, "spec.dnsPolicy: Unsupported value"),
    ],
)
def test_an_invalid_template_is_refused(
    template: Any, message: str, clusters: dict[str, TestCluster], tmp_path: Path
) -> None:
    found = problems(clusters, tmp_path, **pod_with(clusters, tmp_path, template=template))
    assert message in found


def test_a_kind_whose_definition_is_not_installed_is_refused(
    clusters: dict[str, TestCluster], tmp_path: Path
) -> None:
    kind = {"job": host_pods(clusters, tmp_path).job.model_copy(update={"kind": "pytorchjob"})}
    without = {"train": clusters["eval"]}  # where no test installs Kubeflow's definitions
    found = problems(without, tmp_path, **kind)
    assert "cluster 'eval' has no pytorchjobs.kubeflow.org; install Kubeflow's" in found
    assert "mpi on Kubernetes needs job.kind 'mpijob'" in problems(clusters, tmp_path, train="mpi")
