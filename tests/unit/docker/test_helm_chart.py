"""The Helm chart renders what docker/kubernetes holds, for one team or several."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm import Body, HelmError, rendered

DOCKER = Path(__file__).parents[3] / "docker"
FOLDERS = ("base", "serving", "tracking")
OF_CLUSTERS = ("ClusterRole", "ClusterRoleBinding")


def shipped() -> dict[str, Body]:
    """Return the manifests as a release in the namespace `slipway` has them."""
    labels = {"app.kubernetes.io/part-of": "slipway", "helm.sh/chart": "slipway-0.1.0"}
    found = {}
    for folder in FOLDERS:
        for path in sorted((DOCKER / "kubernetes" / folder).glob("*.yaml")):
            for body in yaml.safe_load_all(path.read_text()):
                if body["kind"] in ("Kustomization", "Namespace"):
                    continue
                body["metadata"] |= {"labels": labels}
                if body["kind"] not in OF_CLUSTERS:
                    body["metadata"]["namespace"] = "slipway"
                found[f"{body['kind']}/{body['metadata']['name']}"] = body
    found["PersistentVolumeClaim/slipway-storage"]["spec"]["storageClassName"] = ""
    return found


def test_a_release_is_what_the_manifests_say() -> None:
    expected = shipped()
    found = rendered({})
    assert found.keys() == expected.keys()
    for name, body in found.items():  # as text: 1.0 would not be the API's 1
        assert json.dumps(body, sort_keys=True) == json.dumps(expected[name], sort_keys=True)


def test_a_second_team_shares_nothing_with_the_first() -> None:
    first, second = rendered({}), rendered({}, "team-b")
    of_cluster = {name for name in second if name.startswith(OF_CLUSTERS)}
    assert of_cluster == {
        "ClusterRole/slipway-launcher-team-b",
        "ClusterRoleBinding/slipway-launcher-team-b",
    }
    assert not of_cluster & first.keys()
    binding = second["ClusterRoleBinding/slipway-launcher-team-b"]
    assert binding["roleRef"]["name"] == "slipway-launcher-team-b"
    assert [subject["namespace"] for subject in binding["subjects"]] == ["team-b"]
    others = {
        body["metadata"]["namespace"] for name, body in second.items() if name not in of_cluster
    }
    assert others == {"team-b"}
    assert ".slipway.svc" not in json.dumps(second)
    assert "mlflow.team-b.svc:5000" in json.dumps(second["Deployment/mlflow"])


def test_each_part_can_be_left_out() -> None:
    alone = rendered({"serving": {"enabled": False}, "tracking": {"enabled": False}})
    assert alone.keys() == {name for name in shipped() if name in rendered_of("base")}
    open_ = rendered({"networkPolicies": {"enabled": False}, "storage": {"create": False}})
    assert not [n for n in open_ if n.startswith(("NetworkPolicy", "PersistentVolumeClaim"))]


def rendered_of(folder: str) -> set[str]:
    paths = (DOCKER / "kubernetes" / folder).glob("*.yaml")
    bodies = [body for path in paths for body in yaml.safe_load_all(path.read_text())]
    return {
        f"{b['kind']}/{b['metadata']['name']}" for b in bodies if "name" in b.get("metadata", {})
    }


def test_values_reach_the_objects() -> None:
    images = {"serving": "r.example/serving:2", "components": "r.example/components:2"}
    extra = {"spec": {"template": {"spec": {"priorityClassName": "high"}}}}
    found = rendered(
        {
            "images": images | {"pullSecrets": ["registry"]},
            "storage": {"claim": "ours", "volumeName": "export", "size": "1Ti"},
            "serving": {"envoys": 3},
            "root": "/slipway/team",
            "overrides": {"Deployment/slipway-agent": extra},
        }
    )
    claim = found["PersistentVolumeClaim/ours"]["spec"]
    assert (claim["volumeName"], claim["storageClassName"]) == ("export", "")
    assert claim["resources"]["requests"]["storage"] == "1Ti"
    agent = found["Deployment/slipway-agent"]["spec"]["template"]["spec"]
    assert agent["priorityClassName"] == "high"
    assert agent["serviceAccountName"] == "slipway-agent"
    assert agent["imagePullSecrets"] == [{"name": "registry"}]
    assert agent["containers"][0]["image"] == "r.example/serving:2"
    assert "--root=/slipway/team" in agent["containers"][0]["args"]
    assert found["Deployment/slipway-envoy"]["spec"]["replicas"] == 3
    text = json.dumps(found)
    assert "localhost/" not in text
    assert "slipway-storage" not in text


def test_secrets_runtime_dashboards_and_alerts_are_made_where_values_have_them() -> None:
    runtime = (DOCKER.parent / "configs" / "runtimes" / "kubernetes.yaml").read_text()
    found = rendered(
        {
            "runtime": runtime,
            "tokens": {"agent": "a", "envoy": "b", "file": '{"ci": 1}'},
            "passwords": {"tracking": "c", "postgres": "d"},
            "dashboards": {"enabled": True},
            "alerts": {"enabled": True, "labels": {"release": "prometheus"}},
        }
    )
    assert found["ConfigMap/slipway-runtime"]["data"]["runtime.yaml"].strip() == runtime.strip()
    secrets = {n: b["stringData"] for n, b in found.items() if n.startswith("Secret/")}
    assert secrets == {
        "Secret/slipway-agent": {"token": "a", "envoy-token": "b", "tokens.json": '{"ci": 1}'},
        "Secret/slipway-tracking": {
            "MLFLOW_TRACKING_USERNAME": "slipway",
            "MLFLOW_TRACKING_PASSWORD": "c",
        },
        "Secret/slipway-postgres": {"password": "d"},
    }
    monitoring = DOCKER / "kubernetes" / "monitoring"
    dashboard = found["ConfigMap/slipway-dashboards"]["data"]["slipway-rollouts.json"]
    assert dashboard == (monitoring / "rollouts.dashboard.json").read_text()
    rules = yaml.safe_load((monitoring / "rules.yaml").read_text())
    assert found["PrometheusRule/slipway"]["spec"] == rules
    assert found["PrometheusRule/slipway"]["metadata"]["labels"] == {"release": "prometheus"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stores": {}}, "stores"),
        ({"storage": {"clam": "x"}}, "clam"),
        ({"serving": {"envoys": 0}}, "envoys"),
        ({"root": "artifacts"}, "root"),
        ({"tokens": {"agent": "a"}}, "tokens.envoy: missing beside tokens.agent"),
        ({"tokens": {"file": "{}"}}, "tokens.agent: missing beside tokens.envoy or tokens.file"),
    ],
)
def test_values_that_the_chart_cannot_use_are_refused(values: Any, message: str) -> None:
    with pytest.raises(HelmError, match=message):
        rendered(values)
