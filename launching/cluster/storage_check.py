"""Whether the storage of a run is there and shared: written by a pod, read by a pod elsewhere.

A claim may be missing, unbound, or bound in each cluster to a volume of its own. Only a file that
one pod wrote and another reads tells that, and that the pods' user may write.
"""

import asyncio
import contextlib
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from contract.clients.cluster import Cluster
from contract.clients.cluster_errors import ForbiddenError
from contract.errors import NotFoundError, SlipwayError
from contract.pod_storage import FolderAccess, make_folders
from contract.schema.cluster import KubernetesConfig
from contract.steps import STEPS
from contract.storage import local_path
from launching.cluster.storage_pod import Visit, visited

_SEEN_SECONDS = 20.0  # a file of another machine may be seen late: NFS keeps names for some seconds
_LOOK_SECONDS = 0.5
_SHARED = "ReadWriteMany"


@dataclass
class StorageReport:
    """What was found; `said` tells of what is well."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


async def storage_report(kubernetes: KubernetesConfig, root: str) -> StorageReport:
    """Look at the claims of each cluster, then write and read below the artifact root by pods."""
    report, used = StorageReport(), _clusters_of_steps(kubernetes)
    for name in used:
        await _look_at_claims(name, kubernetes, report)
    if not report.problems:
        await _visit_all(used, kubernetes, local_path(root), report)
    return report


async def claim_problems(cluster: Cluster, claims: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what is wrong with claims of the namespace, and what may be, by the claims alone.

    One that is not bound yet may wait for its first pod: that pod tells.
    """
    problems, warnings = [], []
    for claim in claims:
        try:
            found = await cluster.get("persistentvolumeclaims", claim)
        except NotFoundError:
            problems.append(
                f"claim '{claim}': not in namespace '{cluster.namespace}'; create it "
                "(docker/kubernetes/base/storage.yaml), or change volumes in the runtime file"
            )
            continue
        except ForbiddenError:
            return [], []  # the missing right is reported by itself, and a pod tells
        if found.get("status", {}).get("phase") == "Lost":
            problems.append(f"claim '{claim}': its PersistentVolume is gone (phase Lost)")
        modes = found.get("spec", {}).get("accessModes") or ()
        if _SHARED not in modes:
            warnings.append(
                f"claim '{claim}': allows {', '.join(modes) or 'nothing'}; expected {_SHARED}, "
                "or pods on different nodes cannot mount it at once"
            )
    return problems, warnings


def _clusters_of_steps(kubernetes: KubernetesConfig) -> list[str]:
    return [
        name
        for name, settings in kubernetes.clusters.items()
        if any(kubernetes.cluster(step) == settings for step in STEPS)
    ]


async def _look_at_claims(name: str, kubernetes: KubernetesConfig, report: StorageReport) -> None:
    claims = [volume.claim for volume in kubernetes.volumes if volume.claim]
    async with Cluster(kubernetes.clusters[name]) as cluster:
        problems, warnings = await claim_problems(cluster, claims)
    report.problems.extend(f"{name}: {text}" for text in problems)
    report.warnings.extend(f"{name}: {text}" for text in warnings)


async def _visit_all(
    used: Sequence[str], kubernetes: KubernetesConfig, root: Path, report: StorageReport
) -> None:
    """Let a pod of each cluster read what those before wrote, and write; at least two pods."""
    folder = root / f".slipway-check-{uuid.uuid4().hex[:8]}"
    try:
        if root.is_dir():  # as a run's folders: made where Airflow is, written by pods
            make_folders([FolderAccess(path=str(folder))])
    except OSError as error:
        report.warnings.append(f"storage: {error}; Airflow's user must be able to write there")
    try:
        await _take_turns(_visits(used, kubernetes, folder), kubernetes, report)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


async def _take_turns(
    visits: Sequence[Visit], kubernetes: KubernetesConfig, report: StorageReport
) -> None:
    root = visits[0].folder.parent
    for visit in visits:
        problem, passing = await _sent(kubernetes, visit)
        report.warnings.extend(filter(None, [passing]))
        if problem:
            report.problems.append(f"{problem}{_advice(kubernetes, root)}")
        if problem or passing:
            for earlier in visits[: visit.number]:
                await _sent(kubernetes, replace(earlier, word="clean"))
            return
        if visit.number == 0 and Path(root).is_dir():
            report.warnings.extend(await _not_seen_here(Path(visit.folder), root))
    ways = " and ".join(f"'{name}'" for name in dict.fromkeys(visit.cluster for visit in visits))
    report.said.append(f"storage: {root}: pods of {ways} read what the others write")


async def _sent(kubernetes: KubernetesConfig, visit: Visit) -> tuple[str, str]:
    try:
        async with Cluster(kubernetes.clusters[visit.cluster]) as cluster:
            return await visited(cluster, kubernetes, visit)
    except SlipwayError as error:  # what others wrote is still removed
        return f"storage: pod in '{visit.cluster}': {error}", ""


def _visits(used: Sequence[str], kubernetes: KubernetesConfig, folder: Path) -> list[Visit]:
    names = used if len(used) > 1 else (*used, *used)
    visits = []
    for number, name in enumerate(names):
        settings = kubernetes.clusters[name]
        step = next(step for step in STEPS if kubernetes.cluster(step) == settings)
        word = "last" if number == len(names) - 1 else "more"
        visits.append(Visit(name, step, folder, number, word))
    return visits


async def _not_seen_here(folder: Path, root: PurePath) -> list[str]:
    """Look for the first pod's file on this machine, for a while; say if it is not there."""
    for _ in range(int(_SEEN_SECONDS / _LOOK_SECONDS)):
        if (folder / "0").exists():
            return []
        await asyncio.sleep(_LOOK_SECONDS)
    return [
        f"storage: {root} of this machine is not what pods see at that path; Airflow's "
        "machine must mount the same volume there"
    ]


def _advice(kubernetes: KubernetesConfig, root: PurePath) -> str:
    places = [volume.mount_path for volume in kubernetes.volumes]
    if any(root.is_relative_to(place) for place in places):
        return ""
    return f"; root '{root}' is on no volume of the runtime file ({', '.join(places) or 'none'})"
