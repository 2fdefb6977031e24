"""What the account that launches a run has to be allowed to do, and which of it it may not."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

from contract.clients.cluster import Cluster, Manifest
from contract.schema.cluster import KubernetesConfig, Role
from launching.cluster.kinds import RESOURCES
from launching.cluster.queueing import WORKLOADS

ROLE, FOLDER = "slipway-launcher", "docker/kubernetes/base"
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_CHANGING = ("get", "list", "create", "patch", "delete")


@dataclass(frozen=True)
class Rights:
    """Verbs on one resource of the namespace; of what is optional, a run does without."""

    resource: str
    verbs: tuple[str, ...]
    group: str = ""
    without: str = ""  # what a run lacks without them; empty: it needs them

    @property
    def name(self) -> str:
        """The resource as `kubectl auth can-i` names it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


_ALWAYS = (
    Rights("pods", (*_CHANGING, "watch")),
    Rights("pods/log", ("get",)),
    Rights("events", ("list", "watch"), without="the log does not tell what pods wait for"),
    Rights(
        "persistentvolumeclaims",
        ("get",),
        without="'slipway check' cannot look at claims before pods use them",
    ),
)


def needed_rights(kubernetes: KubernetesConfig, steps: list[str]) -> Iterator[Rights]:
    """Yield what runs need in a cluster that has these steps."""
    yield from _ALWAYS
    kinds = {"train": kubernetes.job.kind, "evaluate": "pods"}
    used = {RESOURCES[kind] for step, kind in kinds.items() if step in steps}
    for path in sorted(used):
        *groups, resource = path.split("/")
        watching = () if path == RESOURCES["pods"] else ("watch",)
        yield Rights(resource, (*_CHANGING, *watching), "".join(groups[:1]))
    if _has_queued_jobs(kubernetes, steps):
        group, _, resource = WORKLOADS.split("/")
        yield Rights(
            resource, ("delete",), group, "Kueue may keep the pods of jobs that were killed"
        )


def _has_queued_jobs(kubernetes: KubernetesConfig, steps: list[str]) -> bool:
    """Tell whether Kueue admits pods of jobs here."""
    kinds = {"train": kubernetes.job.kind, "evaluate": "pods"}
    return any(
        step in steps and kind == "pods" and kubernetes.pod_of(step, role).queue
        for step, kind in kinds.items()
        for role in get_args(Role)
    )


async def missing_rights(cluster: Cluster, needed: Iterable[Rights]) -> tuple[list[str], list[str]]:
    """Ask the API server what the account may not do; return problems and warnings.

    Source: SelfSubjectAccessReview of authorization.k8s.io/v1, which every account may create.
    """
    problems, warnings = [], []
    for rights in needed:
        may = await asyncio.gather(*(_may(cluster, rights, verb) for verb in rights.verbs))
        lacking = [
            verb for verb, is_allowed in zip(rights.verbs, may, strict=True) if not is_allowed
        ]
        if not lacking:
            continue
        found = (
            f"rights: the account may not {', '.join(lacking)} {rights.name} in namespace "
            f"'{cluster.namespace}'"
        )
        advice = f"apply Role '{ROLE}' of {FOLDER} there, and bind it to the account"
        if rights.without:
            warnings.append(f"{found}: {rights.without}; {advice}")
        else:
            problems.append(f"{found}; {advice}")
    return problems, warnings


async def _may(cluster: Cluster, rights: Rights, verb: str) -> bool:
    resource, _, part = rights.resource.partition("/")
    asked: Manifest = {
        "namespace": cluster.namespace,
        "verb": verb,
        "group": rights.group,
        "resource": resource,
    }
    if part:
        asked["subresource"] = part
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    answer = await cluster.ask(_REVIEWS, review)
    return bool(answer.get("status", {}).get("allowed"))
