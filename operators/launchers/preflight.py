"""What a runtime file asks of its clusters, asked of the clusters before a run costs anything.

Each pod is sent as a dry run: that alone tells a wrong context, an expired token, an unknown
namespace, a missing right, an invalid template and a used-up quota apart, and leaves nothing.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes.client import models
from kubernetes.utils.quantity import parse_quantity

from contract.command import StepCommand
from contract.errors import ConfigError, NotFoundError, SlipwayError
from contract.layout import STEPS
from contract.pods import Inside, pod
from contract.schema.cluster import KubernetesConfig, PodConfig
from contract.schema.training import TrainConfig
from operators.job_spec import training_job
from operators.launchers.cluster import Cluster, Manifest
from operators.launchers.kinds import RESOURCES, check_kind

_NAME = "slipway-check"


async def cluster_problems(
    kubernetes: KubernetesConfig, train: TrainConfig
) -> dict[str, list[str]]:
    """Return everything that is wrong, by cluster; an empty list is a cluster that will do."""
    problems: dict[str, list[str]] = {}
    for name, settings in kubernetes.clusters.items():
        steps = [step for step in STEPS if kubernetes.cluster(step) == settings]
        try:
            async with Cluster(settings) as cluster:
                problems[name] = [p async for p in _of_cluster(cluster, kubernetes, steps, train)]
        except SlipwayError as error:
            problems[name] = str(error).splitlines()
    return problems


async def _of_cluster(
    cluster: Cluster, kubernetes: KubernetesConfig, steps: list[str], train: TrainConfig
) -> Any:
    nodes = await _nodes(cluster)
    for place, config in _pods(kubernetes, steps, train).items():
        wrong = list(unknown_keys(config.template, "V1Pod", f"{place}.template"))
        for problem in wrong:
            yield problem
        if not wrong and (problem := await _refused(cluster, kubernetes, config, place)):
            yield problem
        if nodes is not None and (problem := too_big(config, nodes)):
            yield f"{place}: {problem}"
    if "train" in steps and (problem := await _missing_kind(cluster, kubernetes, train)):
        yield problem


def _pods(
    kubernetes: KubernetesConfig, steps: list[str], train: TrainConfig
) -> dict[str, PodConfig]:
    """Return what is different among the pods that will be made, by where the file says so."""
    found: dict[str, PodConfig] = {}
    for step in steps:
        if step == "train":
            job = training_job(_NAME, _command(), train, kubernetes.job, "python")
            found |= {f"roles.{role}": kubernetes.pod_of(step, role) for role in job.replicas}
        elif step == "evaluate":
            found["roles.evaluator"] = kubernetes.pod_of(step, "evaluator")
        elif step in kubernetes.steps:
            found[f"steps.{step}"] = kubernetes.pod_of(step)
        else:
            found["pod"] = kubernetes.pod
    return found


def unknown_keys(value: Any, kind: str, place: str) -> Iterator[str]:
    """Yield the keys of a partial object that its Kubernetes type does not have.

    An API server without field validation (before 1.25) drops them silently.
    """
    if kind.startswith("list[") and isinstance(value, list):
        for number, item in enumerate(value):
            yield from unknown_keys(item, kind[5:-1], f"{place}[{number}]")
    model = getattr(models, kind, None)
    if model is None or not isinstance(value, Mapping):
        return
    known = {name: attribute for attribute, name in model.attribute_map.items()}
    for key, inner in value.items():
        if key in known:
            yield from unknown_keys(inner, model.openapi_types[known[key]], f"{place}.{key}")
            continue
        near = difflib.get_close_matches(str(key), known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        yield f"{place}.{key}: unknown key of {kind.removeprefix('V1')}{hint}"


def too_big(config: PodConfig, nodes: list[Manifest]) -> str:
    """Say what no node can ever give to a pod, whatever else runs; empty if one can."""
    wanted = {"cpu": config.cpu, "memory": config.memory}
    if config.gpus:
        wanted[config.gpu_resource] = str(config.gpus)
    selected = [node for node in nodes if _is_selected(node, config.node_selector)]
    if not selected:
        return f"node_selector {config.node_selector}: no node of the cluster has these labels"
    if any(_has_all(node, wanted) for node in selected):
        return ""
    lacking = [
        f"{name}: asked for {amount}, the largest node offers {_most(selected, name)}"
        for name, amount in wanted.items()
        if not _offers(selected, name, amount)
    ]
    return "no node can ever give this: " + "; ".join(lacking or ["not all of it on one node"])


async def _refused(
    cluster: Cluster, kubernetes: KubernetesConfig, config: PodConfig, place: str
) -> str:
    body = pod(config, kubernetes.volumes, Inside(_NAME, ("true",)))
    try:
        await cluster.create("pods", body, is_trial=True)
    except SlipwayError as error:
        return f"{place}: {error}"
    return ""


async def _nodes(cluster: Cluster) -> list[Manifest] | None:
    """Return the cluster's nodes, or None where the account may not see them."""
    try:
        return list((await cluster.read("/api/v1/nodes"))["items"])
    except ConfigError as error:
        if "(401)" in str(error):
            raise
        return None


async def _missing_kind(cluster: Cluster, kubernetes: KubernetesConfig, train: TrainConfig) -> str:
    kind = kubernetes.job.kind
    try:
        check_kind(training_job(_NAME, _command(), train, kubernetes.job, "python"))
    except ConfigError as error:
        return str(error)
    if kind == "pods":
        return ""
    *group, plural = RESOURCES[kind].split("/")
    try:
        served = await cluster.read(f"/apis/{'/'.join(group)}")
        if any(resource["name"] == plural for resource in served["resources"]):
            return ""
    except NotFoundError:
        pass
    return (
        f"job.kind: {kind}: cluster '{cluster.settings.context}' has no {plural}.{group[0]}; "
        "install Kubeflow's operator, or use kind 'pods', which needs none"
    )


def _command() -> StepCommand:
    return StepCommand("train", _NAME, _NAME, "/")


def _is_selected(node: Manifest, selector: Mapping[str, str]) -> bool:
    labels = node["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in selector.items())


def _has_all(node: Manifest, wanted: Mapping[str, str]) -> bool:
    return all(_offers([node], name, amount) for name, amount in wanted.items())


def _offers(nodes: list[Manifest], resource: str, amount: str) -> bool:
    return bool(parse_quantity(_most(nodes, resource)) >= parse_quantity(amount))


def _most(nodes: list[Manifest], resource: str) -> str:
    """Return the largest amount that one of the nodes offers, as it says so."""
    offered = (node["status"].get("allocatable", {}).get(resource, "0") for node in nodes)
    return str(max(offered, key=parse_quantity))
