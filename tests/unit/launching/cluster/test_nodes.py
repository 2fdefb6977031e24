"""What no node can ever give is told from what is only taken now."""

from typing import Any

import pytest

from contract.pods import Inside, pod
from contract.schema.cluster import PodConfig
from launching.cluster.nodes import no_node_for


def node(
    labels: dict[str, str] | None = None, taints: tuple[str, ...] = (), **offers: Any
) -> dict[str, Any]:
    split = [text.split(":") for text in taints]
    return {
        "metadata": {"labels": labels or {}},
        "spec": {"taints": [{"key": key, "effect": effect} for key, effect in split]},
        "status": {"allocatable": offers, "capacity": offers},
    }


GPUS: Any = {"nvidia.com/gpu": "2"}
SMALL = node(cpu="2", memory="4Gi")
GPU = node({"pool": "gpu"}, cpu="8", memory="16Gi", **GPUS)


def problem(nodes: list[dict[str, Any]], **config: Any) -> str:
    made = pod(PodConfig(**{"image": "i", "cpu": "1", **config}), (), Inside("name", ("true",)))
    return no_node_for(made, nodes)


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
    found = problem([SMALL, GPU], **config)
    assert found.endswith(message) if message else not found


def affinity(*expressions: Any) -> Any:
    terms = [{"matchExpressions": [one]} for one in expressions]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"spec": {"affinity": {"nodeAffinity": required}}}


def rule(key: str, operator: str, *values: str) -> Any:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("expressions", "is_met"),
    [
        ([rule("pool", "In", "gpu", "tpu")], True),
        ([rule("pool", "In", "tpu")], False),
        ([rule("pool", "NotIn", "gpu")], False),  # codespell:ignore
        ([rule("pool", "NotIn", "tpu")], True),  # codespell:ignore
        ([rule("other", "NotIn", "gpu")], True),  # codespell:ignore
        ([rule("pool", "Exists")], True),
        ([rule("pool", "DoesNotExist")], False),
        ([rule("generation", "Gt", "4")], True),
        ([rule("generation", "Gt", "5")], False),
        ([rule("generation", "Lt", "6")], True),
        ([rule("pool", "Lt", "6")], False),
        ([rule("generation", "Lt")], False),  # refused by the API server, and no crash here
        ([{"operator": "Exists"}], False),
        ([rule("pool", "In", "tpu"), rule("generation", "Exists")], True),
        ([], False),
    ],
)
def test_a_required_node_affinity_keeps_nodes_out_by_kubernetes_rules(
    expressions: Any, is_met: bool
) -> None:
    nodes = [node({"pool": "gpu", "generation": "5"}, cpu="8", memory="16Gi")]
    found = problem(nodes, template=affinity(*expressions))
    assert bool(found) is not is_met


def test_an_affinity_that_no_node_meets_is_written_out() -> None:
    wanted = affinity(rule("pool", "In", "tpu", "npu"), rule("ssd", "Exists"))
    assert problem([GPU], template=wanted) == (
        "required node affinity (pool In (tpu, npu) or ssd Exists): no node of the cluster meets it"
    )
    term = {"matchFields": [rule("metadata.name", "In", "node-7")]}
    both = wanted["spec"]["affinity"]["nodeAffinity"]
    both["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"].append(term)
    named = node(cpu="8", memory="16Gi")
    named["metadata"]["name"] = "node-7"
    assert not problem([GPU, named], template=wanted)
    preferred: Any = {"preferredDuringSchedulingIgnoredDuringExecution": []}
    assert not problem([GPU], template={"spec": {"affinity": {"nodeAffinity": preferred}}})


def test_enough_of_each_on_different_nodes_is_not_enough() -> None:
    nodes = [node(cpu="8", memory="1Gi"), node(cpu="1", memory="16Gi")]
    found = problem(nodes, cpu="4", memory="8Gi")
    assert found == "no node can ever give this: not all of it on one node"


def test_what_a_templates_containers_ask_for_counts_too() -> None:
    sidecar = {"name": "proxy", "resources": {"limits": {"cpu": "1500m"}}}
    template = {"spec": {"containers": [sidecar]}}
    assert not problem([SMALL], cpu="500m", template=template)
    found = problem([SMALL], cpu="1", template=template)
    assert found.endswith("cpu: asked for 2.500, the largest node offers 2")


@pytest.mark.parametrize(
    ("taints", "tolerations", "message"),
    [
        (("gpu:NoSchedule",), [], "no toleration of the taint 'gpu:NoSchedule'"),
        (("gpu:NoSchedule",), [{"key": "gpu"}], ""),
        (("gpu:NoSchedule",), [{"key": "gpu", "effect": "NoExecute"}], "taint 'gpu:NoSchedule'"),
        (("gpu:NoSchedule",), [{"key": "gpu", "operator": "Equal", "value": "x"}], "taint 'gpu"),
        (("gpu:NoSchedule", "old:NoExecute"), [{"key": "gpu"}], "taint 'old:NoExecute'"),
        (("gpu:PreferNoSchedule",), [], ""),
        (("node.kubernetes.io/unschedulable:NoSchedule",), [], ""),
    ],
)
def test_a_taint_keeps_out_who_does_not_tolerate_it_unless_it_passes(
    taints: tuple[str, ...], tolerations: list[Any], message: str
) -> None:
    config = PodConfig.model_validate({"tolerations": tolerations}, strict=False)
    found = problem([node(taints=taints, cpu="8", memory="16Gi")], tolerations=config.tolerations)
    assert message in found if message else not found


def test_a_device_whose_driver_starts_again_is_still_there() -> None:
    restarting = node(cpu="8", memory="16Gi", **GPUS)
    restarting["status"]["allocatable"] = {"cpu": "8", "memory": "16Gi", "nvidia.com/gpu": "0"}
    assert not problem([restarting], gpus=2)
