from pathlib import Path

import pytest

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
    endpoint,
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
    assert container["volumeMounts"] == [{"name": "storage", "mountPath": "/slipway"}]
    assert spec["restartPolicy"] == "Always"
    assert spec["terminationGracePeriodSeconds"] > SPEC.drain_seconds


def test_selector_and_pods_agree() -> None:
    made = deployment(SPEC, kubernetes())
    selector = made["spec"]["selector"]["matchLabels"]
    assert selector.items() <= made["spec"]["template"]["metadata"]["labels"].items()
    assert service(VERSION, kubernetes())["spec"]["selector"] == selector
    assert version_of(selector) == VERSION


def test_an_autoscaler_takes_the_replicas_from_the_deployment() -> None:
    assert autoscaler(VERSION, kubernetes()) is None
    scaled = kubernetes(min_replicas=2, max_replicas=5)
    made = autoscaler(VERSION, scaled)
    assert made is not None
    assert made["spec"]["maxReplicas"] == 5
    assert "replicas" not in deployment(SPEC, scaled)["spec"]


def test_all_replicas_answer_under_one_name() -> None:
    assert endpoint(VERSION, kubernetes()) == Endpoint("slipway-my-census-12.models.svc", 8501)


@pytest.mark.parametrize("labels", [{}, {"slipway/pipeline": "digits"}, {"slipway/version": "1"}])
def test_other_objects_are_nobodys_server(labels) -> None:
    assert version_of(labels) is None
    assert version_of({**server_labels(VERSION), "slipway/version": "x"}) is None
