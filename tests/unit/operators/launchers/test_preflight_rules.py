"""What the pre-flight check finds out by itself; what it asks clusters is in tests/cluster."""

from typing import Any

import pytest

from contract.schema.cluster import PodConfig
from operators.launchers.preflight import too_big, unknown_keys


def node(labels: dict[str, str] | None = None, **offers: str) -> dict[str, Any]:
    return {"metadata": {"labels": labels or {}}, "status": {"allocatable": offers}}


SMALL = node(cpu="2", memory="4Gi")
GPU = node({"pool": "gpu"}, cpu="8", memory="16Gi", **{"nvidia.com/gpu": "2"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"cpu": "2", "memory": "4Gi"}, ""),
        ({"cpu": "1900m", "memory": "4Gi", "gpus": 2}, ""),
        ({"gpus": 3}, "nvidia.com/gpu: asked for 3, the largest node offers 2"),
        ({"cpu": "9"}, "cpu: asked for 9, the largest node offers 8"),
        ({"memory": "17Gi"}, "memory: asked for 17Gi, the largest node offers 16Gi"),
        ({"node_selector": {"pool": "gpu"}, "cpu": "4"}, ""),
        ({"node_selector": {"pool": "ps"}}, "no node of the cluster has these labels"),
        ({"gpus": 1, "gpu_resource": "nvidia.com/mig-1g.10gb"}, "the largest node offers 0"),
    ],
)
def test_what_no_node_can_ever_give_is_named(config: Any, message: str) -> None:
    found = too_big(PodConfig(image="i", **config), [SMALL, GPU])
    assert found.endswith(message) if message else not found


def test_enough_of_each_on_different_nodes_is_not_enough() -> None:
    nodes = [node(cpu="8", memory="1Gi"), node(cpu="1", memory="16Gi")]
    asked = PodConfig(image="i", cpu="4", memory="8Gi")
    assert too_big(asked, nodes) == "no node can ever give this: not all of it on one node"


def test_unknown_keys_of_a_template_are_found_at_any_depth() -> None:
    template = {
        "metadata": {"annotation": {}},
        "spec": {"containers": [{"name": "main", "volumeMount": []}], "nodeSelector": {"any": "x"}},
    }
    assert list(unknown_keys(template, "V1Pod", "pod.template")) == [
        "pod.template.metadata.annotation: unknown key of ObjectMeta; did you mean 'annotations'?",
        "pod.template.spec.containers[0].volumeMount: unknown key of Container; "
        "did you mean 'volumeMounts'?",
    ]
