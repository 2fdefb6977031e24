"""What a cluster's nodes could ever give to a pod, whatever else runs on them.

What may pass counts for the pod: taints that Kubernetes or a cloud sets for a while, a device whose
driver starts again. Of affinity rules the required ones of nodes count; those between pods change
with what runs.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from contract.clients.cluster import Cluster
from contract.clients.cluster_errors import ForbiddenError
from contract.pod_templates import Manifest
from launching.cluster.node_affinity import in_words, is_wanted

_PASSING_TAINTS = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
_REPELLING = ("NoSchedule", "NoExecute")


async def read_nodes(cluster: Cluster) -> tuple[list[Manifest] | None, str]:
    """Return the cluster's nodes; where the account may not see them, None and what to do."""
    try:
        return list((await cluster.read("/api/v1/nodes"))["items"]), ""
    except ForbiddenError:
        return None, (
            "the account may not list nodes, so it is not checked whether a node offers what "
            "pods request; apply docker/kubernetes/base as it is now"
        )


def no_node_for(pod: Manifest, nodes: list[Manifest]) -> str:
    """Say what no node can ever give to a pod; empty if one can."""
    spec = pod["spec"]
    selector, wanted = spec.get("nodeSelector") or {}, _requests(spec)
    selected = [node for node in nodes if _is_selected(node, selector)]
    if not selected:
        return f"node_selector {selector}: no node of the cluster has these labels"
    wanted_nodes = [node for node in selected if is_wanted(node, spec)]
    if not wanted_nodes:
        return f"required node affinity ({in_words(spec)}): no node of the cluster meets it"
    open_ = [node for node in wanted_nodes if not _repelling_taint(node, spec)]
    if not open_:
        return f"no toleration of the taint '{_repelling_taint(wanted_nodes[0], spec)}'"
    if any(all(_offers([node], *item) for item in wanted.items()) for node in open_):
        return ""
    lacking = [
        f"{name}: asked for {amount}, the largest node offers {_most(open_, name)}"
        for name, amount in wanted.items()
        if not _offers(open_, name, amount)
    ]
    return "no node can ever give this: " + "; ".join(lacking or ["not all of it on one node"])


def _requests(spec: Manifest) -> dict[str, str]:
    """Return what the containers ask for together; of a resource without a request, the limit."""
    asked: dict[str, list[str]] = {}
    for container in spec["containers"]:
        resources = container.get("resources", {})
        for name, amount in {
            **resources.get("limits", {}),
            **resources.get("requests", {}),
        }.items():
            asked.setdefault(name, []).append(str(amount))
    return {name: _total(amounts) for name, amounts in asked.items()}


def _total(amounts: list[str]) -> str:
    return amounts[0] if len(amounts) == 1 else str(sum(map(parse_quantity, amounts)))


def _is_selected(node: Manifest, selector: Mapping[str, str]) -> bool:
    labels = node["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in selector.items())


def _repelling_taint(node: Manifest, spec: Manifest) -> str:
    """Return the first taint of a node that the pod does not tolerate, as kubectl writes it."""
    for taint in node.get("spec", {}).get("taints") or ():
        is_passing = taint["key"].startswith(_PASSING_TAINTS)
        if taint["effect"] not in _REPELLING or is_passing:
            continue
        if not _tolerates(spec.get("tolerations") or (), taint):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"{taint['key']}{value}:{taint['effect']}"
    return ""


def _tolerates(tolerations: Iterable[Mapping[str, Any]], taint: Mapping[str, Any]) -> bool:
    """Tell whether one of them matches, by the rules of Kubernetes' `Toleration`."""
    return any(
        t.get("key", "") in ("", taint["key"])
        and t.get("effect", "") in ("", taint["effect"])
        and (t.get("operator") == "Exists" or t.get("value", "") == taint.get("value", ""))
        for t in tolerations
    )


def _offers(nodes: list[Manifest], resource: str, amount: str) -> bool:
    return bool(parse_quantity(_most(nodes, resource)) >= parse_quantity(amount))


def _most(nodes: list[Manifest], resource: str) -> str:
    """Return the largest amount that one of the nodes offers, as it says so."""
    # a device plugin that starts again takes its devices out of `allocatable` only
    place = "capacity" if "/" in resource else "allocatable"
    offered = (node["status"].get(place, {}).get(resource, "0") for node in nodes)
    return str(max(offered, key=parse_quantity))
