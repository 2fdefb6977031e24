"""The values for Airflow's Helm chart fit our image, our manifests and the docs."""

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

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
    assert f"apache-airflow=={values['airflowVersion']} " in lock


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


def test_airflow_reaches_the_agent_to_withdraw_the_trial_of_a_failed_run(
    values: dict[str, Any],
) -> None:
    deployment = next(
        one
        for one in yaml.safe_load_all((KUBERNETES / "airflow" / "airflow.yaml").read_text())
        if one["kind"] == "Deployment"
    )
    pod = deployment["spec"]["template"]["spec"]
    own = [{**one, "volumes": pod["volumes"]} for one in pod["containers"]]
    (service, agent) = yaml.safe_load_all((KUBERNETES / "serving" / "agent.yaml").read_text())
    place = f"{service['metadata']['name']}", service["spec"]["ports"][0]["port"]
    for process in (values, *own):
        given = {one["name"]: one["value"] for one in process["env"]}
        url = urlsplit(given["SLIPWAY_AGENT_URL"])
        assert ((url.hostname or "").removesuffix(".slipway.svc"), url.port) == place
        path = PurePosixPath(given["SLIPWAY_AGENT_TOKEN_FILE"])
        mounts = {PurePosixPath(one["mountPath"]): one["name"] for one in process["volumeMounts"]}
        volumes = {one["name"]: one for one in process["volumes"]}
        secret = volumes[mounts[path.parent]]["secret"]
        assert secret["optional"], "Airflow starts where there is no agent"
        tokens = agent["spec"]["template"]["spec"]["volumes"][1]["secret"]["secretName"]
        assert (secret["secretName"], secret["items"]) == (
            tokens,
            [{"key": "token", "path": path.name}],
        )
    policies = yaml.safe_load_all((KUBERNETES / "serving" / "network.yaml").read_text())
    (opened,) = (one for one in policies if one["metadata"]["name"] == "slipway-agent")
    callers = [one["podSelector"] for one in opened["spec"]["ingress"][0]["from"]]
    assert {"matchLabels": {"app": "airflow"}} in callers
    assert {"matchLabels": {"release": "airflow"}} in callers


def test_its_pods_are_of_the_profile_that_the_namespace_takes(values: dict[str, Any]) -> None:
    pod, container = (values["securityContexts"][key] for key in ("pod", "containers"))
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_the_charts_pods_have_their_openings() -> None:
    shipped = yaml.safe_load_all((KUBERNETES / "airflow-network.yaml").read_text())
    policies = {one["metadata"]["name"]: one["spec"] for one in shipped}
    egress = policies["slipway-airflow-chart"]["egress"]
    ports = [port["port"] for rule in egress for port in rule.get("ports", ())]
    assert ports == [5432, 5000, 8600, 443, 6443]
    (mlflow, *_) = yaml.safe_load_all((KUBERNETES / "tracking" / "network.yaml").read_text())
    callers = [one["podSelector"] for one in mlflow["spec"]["ingress"][0]["from"]]
    assert {"matchLabels": {"release": "airflow"}} in callers
