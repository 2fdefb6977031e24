from dataclasses import replace
from pathlib import Path

import pytest

from contract.programs import IMPORTED_MODEL_SERVER
from contract.schema.cluster import (
    ClusterConfig,
    KubernetesConfig,
    PodConfig,
    ServingConfig,
    VolumeConfig,
)
from serving.agent.hosts.host import ServerSpec
from serving.agent.hosts.server_objects import (
    autoscaler,
    deployment,
    disruption_budget,
    endpoint,
    has_grpc,
    older_budgets,
    server_labels,
    service,
    version_of,
)
from serving.traffic.backend import Endpoint

VERSION = ("my_census", 12)
SPEC = ServerSpec(
    "my_census", 12, Path("/slipway/artifacts/p"), Path("/slipway/artifacts/l"), drain_seconds=10.0
)


def kubernetes(**serving: int) -> KubernetesConfig:
    return KubernetesConfig(
        clusters={"train": ClusterConfig(), "eval": ClusterConfig(namespace="models")},
        default_cluster="train",
        cluster_of={"serve": "eval"},
        volumes=(VolumeConfig(name="storage", mount_path="/slipway", claim="slipway-storage"),),
        pod=PodConfig(image="components:1", python="python3"),
        steps={"serve": PodConfig(image="serving:1", cpu="2")},
        serving=ServingConfig(**serving),
    )


def test_a_deployment_runs_the_package_with_what_the_runtime_file_gives_to_serve() -> None:
    made = deployment(SPEC, kubernetes(min_replicas=2, max_replicas=2))
    spec = made["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert (made["metadata"]["name"], made["spec"]["replicas"]) == ("slipway-my-census-12", 2)
    assert container["command"][:5] == [
        *("python3", "-m", "serving.server", "--package", "/slipway/artifacts/p")
    ]
    assert (container["image"], container["resources"]["requests"]["cpu"]) == ("serving:1", "2")
    assert [(m["mountPath"], m.get("readOnly", False)) for m in container["volumeMounts"]] == [
        ("/slipway/artifacts/p", True),
        ("/slipway/artifacts/l", False),
    ]
    assert spec["restartPolicy"] == "Always"
    imported = replace(SPEC, program=IMPORTED_MODEL_SERVER)
    other = deployment(imported, kubernetes())["spec"]["template"]["spec"]["containers"][0]
    assert other["command"][:3] == ["python3", "-m", "serving.standalone.packaged"]
    assert other["command"][3:] == container["command"][3:]
    assert spec["terminationGracePeriodSeconds"] > SPEC.drain_seconds


def test_selector_and_pods_agree() -> None:
    made = deployment(SPEC, kubernetes())
    selector = made["spec"]["selector"]["matchLabels"]
    assert selector.items() <= made["spec"]["template"]["metadata"]["labels"].items()
    assert service(SPEC, kubernetes())["spec"]["selector"] == selector
    assert version_of(selector) == VERSION


def test_a_server_that_speaks_grpc_has_a_second_port_by_name() -> None:
    spec = replace(SPEC, is_grpc=True)
    wanted = {"http": 8501, "grpc": 9000}
    (container,) = deployment(spec, kubernetes(grpc_port=9000))["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["command"][-2:] == ["--grpc-port", "9000"]
    assert {one["name"]: one["containerPort"] for one in container["ports"]} == wanted
    ports = service(spec, kubernetes(grpc_port=9000))["spec"]["ports"]
    assert {one["name"]: one["port"] for one in ports} == wanted
    (alone,) = service(SPEC, kubernetes())["spec"]["ports"]
    assert alone["name"] == "http"


def test_an_autoscaler_takes_the_replicas_from_the_deployment() -> None:
    assert autoscaler(VERSION, kubernetes()) is None
    scaled = kubernetes(min_replicas=2, max_replicas=5)
    made = autoscaler(VERSION, scaled)
    assert made is not None
    assert made["spec"]["maxReplicas"] == 5
    assert "replicas" not in deployment(SPEC, scaled)["spec"]


def test_two_replicas_that_nodes_and_drains_keep_apart_unless_one_is_asked_for() -> None:
    made = deployment(SPEC, kubernetes())
    assert made["spec"]["replicas"] == 2
    spread = made["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert {one["topologyKey"]: one["whenUnsatisfiable"] for one in spread} == {
        "topology.kubernetes.io/zone": "ScheduleAnyway",
        "kubernetes.io/hostname": "ScheduleAnyway",
    }
    selector = made["spec"]["selector"]
    assert all(one["labelSelector"] == selector for one in spread)
    budget = disruption_budget(VERSION, kubernetes())
    assert budget is not None
    kept = {"maxUnavailable": 1, "selector": selector}
    assert budget["spec"] == {**kept, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    older = [(one["apiVersion"], one["spec"]) for one in older_budgets(budget)]
    assert older == [("policy/v1", kept), ("policy/v1beta1", kept)]
    assert disruption_budget(VERSION, kubernetes(min_replicas=1)) is None, "it would keep nothing"
    assert autoscaler(VERSION, kubernetes(min_replicas=1)) is None, "a minimum alone scales nothing"


def test_a_template_may_spread_otherwise() -> None:
    own = [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]
    serve = PodConfig(image="serving:1", template={"spec": {"topologySpreadConstraints": own}})
    given = kubernetes().model_copy(update={"steps": {"serve": serve}})
    assert deployment(SPEC, given)["spec"]["template"]["spec"]["topologySpreadConstraints"] == own


def test_all_replicas_answer_under_one_name() -> None:
    assert endpoint(VERSION, kubernetes()) == Endpoint("slipway-my-census-12.models.svc", 8501)


@pytest.mark.parametrize("labels", [{}, {"slipway/pipeline": "digits"}, {"slipway/version": "1"}])
def test_other_objects_are_nobodys_server(labels) -> None:
    assert version_of(labels) is None
    assert version_of({**server_labels(VERSION), "slipway/version": "x"}) is None


def test_a_server_that_speaks_grpc_is_reached_at_both_ports() -> None:
    runtime = kubernetes()
    both = deployment(replace(SPEC, is_grpc=True), runtime)
    assert has_grpc(both)
    assert not has_grpc(deployment(SPEC, runtime))
    host = "slipway-my-census-12.models.svc"
    assert endpoint(VERSION, runtime, has_grpc=True) == Endpoint(host, 8501, 8500)
    assert endpoint(VERSION, runtime) == Endpoint(host, 8501)
