"""The values for Airflow's Helm chart fit our image, our manifests and the docs."""

import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
DOCKER = ROOT / "docker"
KUBERNETES = DOCKER / "kubernetes"


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return dict(yaml.safe_load((KUBERNETES / "airflow-values.yaml").read_text()))


def names(path: str, kind: str) -> set[str]:
    documents = yaml.safe_load_all((KUBERNETES / path).read_text())
    return {d["metadata"]["name"] for d in documents if d["kind"] == kind}


def test_they_are_for_our_image(values: dict[str, Any]) -> None:
    dockerfile = (DOCKER / "orchestrator.Dockerfile").read_text()
    image = values["images"]["airflow"]
    trial = (KUBERNETES / "airflow" / "airflow.yaml").read_text()
    assert f"image: {image['repository']}:{image['tag']}\n" in trial
    assert f"AIRFLOW_HOME={values['airflowHome']} " in dockerfile
    assert f"USER {values['uid']}:{values['gid']}\n" in dockerfile
    assert f"DAGS_FOLDER={values['config']['core']['dags_folder']} " in dockerfile
    lock = (ROOT / "requirements" / "lock.txt").read_text()
    assert f"apache-airflow=={values['airflowVersion']}\n" in lock


def test_airflow_reads_the_users_runtime_file_and_contexts(values: dict[str, Any]) -> None:
    files = {e["name"]: PurePosixPath(e["value"]) for e in values["env"]}
    mounts = {PurePosixPath(m["mountPath"]): m["name"] for m in values["volumeMounts"]}
    volumes = {v["name"]: v for v in values["volumes"]}
    runtime = volumes[mounts[files["SLIPWAY_RUNTIME"].parent]]["configMap"]["name"]
    contexts = volumes[mounts[files["KUBECONFIG"].parent]]["secret"]["secretName"]
    docs = (ROOT / "docs" / "kubernetes.md").read_text()
    key = files["SLIPWAY_RUNTIME"].name
    assert re.search(rf"create configmap {runtime} \\\s+--from-file={key}=", docs)
    assert (
        f"generic {contexts} --from-file={files['KUBECONFIG'].name}"
        in (KUBERNETES / "airflow-values.yaml").read_text()
    )
    assert set(mounts.values()) == volumes.keys()


def test_it_shares_the_volume_and_acts_as_the_launcher(values: dict[str, Any]) -> None:
    (claim,) = (v["persistentVolumeClaim"]["claimName"] for v in values["volumes"][:1])
    assert claim in names("base/storage.yaml", "PersistentVolumeClaim")
    for process in ("scheduler", "triggerer"):  # LocalExecutor's workers are the scheduler's
        account = values[process]["serviceAccount"]
        assert not account["create"]
        assert account["name"] in names("base/rbac.yaml", "ServiceAccount")
