"""What a runtime file asks of its clusters, asked of the clusters before a run costs anything.

Each pod is sent as a dry run: that alone tells a wrong context, an expired token, an unknown
namespace, an invalid template and a used-up quota apart, and leaves nothing. Every right that a run
uses is asked for by itself. What pods find on the storage is in `storage_check`.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubernetes.client import models

from contract.clients.cluster import Cluster
from contract.command import StepCommand
from contract.errors import ConfigError, NotFoundError, SlipwayError
from contract.pods import Inside, pod
from contract.schema.cluster import KubernetesConfig, PodConfig
from contract.schema.training import TrainConfig
from contract.steps import STEPS
from launching.cluster.kinds import RESOURCES, check_kind
from launching.cluster.nodes import no_node_for, read_nodes
from launching.cluster.queueing import queue_of
from launching.cluster.rights import missing_rights, needed_rights
from launching.job_spec import training_job

_NAME = "slipway-check"
_SERVE = "serve"  # no step of a run: what the agent's model servers get


@dataclass(frozen=True)
class ClusterReport:
    """What is wrong with a cluster for this runtime file; without problems it will do."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


async def cluster_reports(
    kubernetes: KubernetesConfig, train: TrainConfig
) -> dict[str, ClusterReport]:
    """Return everything that is wrong, by cluster."""
    reports = {name: ClusterReport() for name in kubernetes.clusters}
    for name, settings in kubernetes.clusters.items():
        steps = [step for step in (*STEPS, _SERVE) if kubernetes.cluster(step) == settings]
        try:
            async with Cluster(settings) as cluster:
                if set(steps) & set(STEPS):
                    await _ask_rights(cluster, kubernetes, steps, reports[name])
                await _look(cluster, kubernetes, _pods(kubernetes, steps, train), reports[name])
                if "train" in steps:
                    missing = await _missing_kind(cluster, kubernetes, train)
                    reports[name].problems.extend(missing)
        except SlipwayError as error:
            reports[name].problems.extend(str(error).splitlines())
    return reports


async def _ask_rights(
    cluster: Cluster, kubernetes: KubernetesConfig, steps: list[str], report: ClusterReport
) -> None:
    problems, warnings = await missing_rights(cluster, needed_rights(kubernetes, steps))
    report.problems.extend(problems)
    report.warnings.extend(warnings)


async def _look(
    cluster: Cluster,
    kubernetes: KubernetesConfig,
    pods: Mapping[str, PodConfig],
    report: ClusterReport,
) -> None:
    """Send each pod as a dry run, and compare what it asks for with what the nodes have."""
    nodes, unreadable = await read_nodes(cluster)
    report.warnings.extend(filter(None, [unreadable]))
    for place, config in pods.items():
        wrong = list(unknown_keys(config.template, "V1Pod", f"{place}.template"))
        report.problems.extend(wrong)
        if wrong:
            continue
        body = pod(config, kubernetes.volumes, Inside(_NAME, ("true",)))
        try:
            await cluster.create("pods", body, is_trial=True)
        except SlipwayError as error:
            report.problems.append(f"{place}: {error}")
        if nodes is not None and (problem := no_node_for(body, nodes)):
            is_passing = cluster.settings.is_autoscaled
            (report.warnings if is_passing else report.problems).append(f"{place}: {problem}")


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


async def _missing_kind(
    cluster: Cluster, kubernetes: KubernetesConfig, train: TrainConfig
) -> list[str]:
    kind = kubernetes.job.kind
    job = training_job(_NAME, _command(), train, kubernetes.job, "python")
    try:
        check_kind(job)
        queue_of(job, kubernetes)
    except ConfigError as error:
        return list(error.problems)
    if kind == "pods":
        return []
    *group, plural = RESOURCES[kind].split("/")
    try:
        served = await cluster.read(f"/apis/{'/'.join(group)}")
        if any(resource["name"] == plural for resource in served["resources"]):
            return []
    except NotFoundError:
        pass
    return [
        f"job.kind: {kind}: cluster '{cluster.settings.context}' has no {plural}.{group[0]}; "
        "install Kubeflow's operator, or use kind 'pods', which needs none"
    ]


def _command() -> StepCommand:
    return StepCommand("train", _NAME, _NAME, "/")
