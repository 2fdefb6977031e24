"""The rights in docker/kubernetes are enough for a whole job, and not more."""

import asyncio
import base64
import json
import subprocess
from pathlib import Path

import pytest
import yaml
from clusters import PYTHON, ROOT, TestCluster, host_pods, wait_for

from contract.errors import ConfigError
from contract.schema.cluster import ClusterConfig, JobConfig
from operators.job_spec import JobSpec
from operators.launchers.claim import Claim
from operators.launchers.cluster import Cluster
from operators.launchers.pods import SERVICES, PodJob
from operators.launchers.reaper import reap
from operators.launchers.restarts import JobEnd
from operators.manifests import TASK


@pytest.fixture(scope="module")
def launcher(
    clusters: dict[str, TestCluster], tmp_path_factory: pytest.TempPathFactory
) -> ClusterConfig:
    """The cluster `train` as the service account of docker/kubernetes/base sees it."""
    cluster = clusters["train"]
    command = ["kubectl", "kustomize", str(ROOT / "docker" / "kubernetes" / "base")]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for body in yaml.safe_load_all(made):
        if body["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            body["metadata"]["namespace"] = cluster.namespace
            for subject in body.get("subjects", ()):
                subject["namespace"] = cluster.namespace
            cluster.apply(body)
    config = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    context = next(c for c in config["contexts"] if c["name"] == cluster.context)
    context["context"]["user"] = "launcher"
    config["users"] = [{"name": "launcher", "user": {"token": _token(cluster)}}]
    path = tmp_path_factory.mktemp("launcher") / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return cluster.settings.model_copy(update={"kubeconfig": str(path)})


def _token(cluster: TestCluster) -> str:
    """Return the account's token: asked for, or (before 1.24) out of its secret."""
    asked = cluster.kubectl("create", "token", "slipway-launcher", is_checked=False).strip()
    if asked:
        return asked

    def secrets() -> list[dict[str, str]]:
        account = cluster.kubectl("get", "serviceaccount", "slipway-launcher", "-o", "json")
        return list(json.loads(account).get("secrets", []))

    (secret,) = wait_for(secrets, 20)
    body = json.loads(cluster.kubectl("get", "secret", secret["name"], "-o", "json"))
    return base64.b64decode(body["data"]["token"]).decode()


def test_a_job_runs_from_beginning_to_end_with_the_launchers_rights(
    launcher: ClusterConfig, clusters: dict[str, TestCluster], tmp_path: Path
) -> None:
    job = JobSpec(
        name="rights",
        step="train",
        command=(PYTHON, "-c", "print('done')"),
        replicas={"chief": 1, "worker": 1},
        labels={TASK: "rights"},
        settings=JobConfig(grace_seconds=0),
    )

    async def run() -> JobEnd:
        async with Cluster(launcher) as cluster:
            await reap(cluster, 3600)
            claim = Claim(cluster, SERVICES, job.labels, 0, 1)
            kubernetes = host_pods(clusters, tmp_path)
            return await PodJob(cluster, job, kubernetes, claim, print).run()

    assert asyncio.run(run()).is_good


@pytest.mark.parametrize("resource", ["secrets", "configmaps", "apps/v1/deployments"])
def test_what_the_launcher_does_not_need_is_forbidden(
    resource: str, launcher: ClusterConfig
) -> None:
    async def look() -> None:
        async with Cluster(launcher) as cluster:
            await cluster.list(resource, {})

    with pytest.raises(ConfigError, match="forbidden.*Give the service account the verbs"):
        asyncio.run(look())


def test_another_namespace_is_forbidden(launcher: ClusterConfig) -> None:
    async def look() -> None:
        async with Cluster(launcher.model_copy(update={"namespace": "default"})) as cluster:
            await cluster.create("pods", {"metadata": {"name": "x"}}, is_trial=True)

    with pytest.raises(ConfigError, match="forbidden"):
        asyncio.run(look())
