"""What `check` finds out about storage, on two real clusters: written in one, read in the other."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from clusters import TestCluster, host_pods, wait_for

from contract.schema.cluster import VolumeConfig
from launching.cluster.storage_check import StorageReport, storage_report

Up = dict[str, TestCluster]


def claim(name: str, volume: str | None) -> dict[str, Any]:
    """Return a claim of one volume, or one that the default StorageClass gives its own."""
    modes = ["ReadWriteMany"] if volume else ["ReadWriteOnce"]
    spec: dict[str, Any] = {"accessModes": modes, "resources": {"requests": {"storage": "1Gi"}}}
    if volume:
        spec |= {"storageClassName": "", "volumeName": volume}
    metadata = {"name": name}
    kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    return {**kind, "metadata": metadata, "spec": spec}


def on_one_export(cluster: TestCluster, name: str, folder: Path) -> None:
    """Bind a claim of a cluster to a volume on a folder that both have, as on an NFS export."""
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany"],
        "hostPath": {"path": str(folder)},
    }
    volume = f"{cluster.namespace}-{name}"
    metadata = {"name": volume}
    kind = {"apiVersion": "v1", "kind": "PersistentVolume"}
    cluster.apply({**kind, "metadata": metadata, "spec": spec})
    cluster.apply(claim(name, volume))


def are_bound(cluster: TestCluster) -> bool:
    return all(found["status"].get("phase") == "Bound" for found in cluster.get("pvc"))


def storage(clusters: Up, folder: Path, name: str) -> StorageReport:
    given = host_pods(clusters, folder, cluster_of={"evaluate": "eval"})
    volumes = tuple(
        VolumeConfig(name="storage", mount_path=str(folder), claim=name)
        if volume.name == "storage"
        else volume
        for volume in given.volumes
    )
    kubernetes = given.model_copy(update={"volumes": volumes})
    return asyncio.run(storage_report(kubernetes, str(folder / "artifacts")))


def test_storage_is_written_in_one_cluster_and_read_in_the_other(
    clusters: Up, tmp_path: Path
) -> None:
    if clusters["train"].context == clusters["eval"].context:
        pytest.skip("two clusters are needed")
    for cluster in clusters.values():
        on_one_export(cluster, "shared", tmp_path)
        cluster.apply(claim("own", None))
    try:
        wait_for(lambda: all(map(are_bound, clusters.values())), 120, "the claims' volumes")
        shared = storage(clusters, tmp_path, "shared")
        own = storage(clusters, tmp_path, "own")
        missing = storage(clusters, tmp_path, "missing")
    finally:
        for cluster in clusters.values():
            cluster.kubectl("delete", "pvc", "shared", "own", "--wait=false")
            volume = f"{cluster.namespace}-shared"
            cluster.kubectl("delete", "pv", volume, "--wait=false")
    assert (shared.problems, shared.warnings) == ([], [])
    assert "pods of 'train' and 'eval' read what the others write" in shared.said[0]
    (problem,) = own.problems
    assert "pod in 'eval': what a pod wrote before is not there" in problem
    assert [text.split(";")[0] for text in missing.problems] == [
        f"{name}: claim 'missing': not in namespace '{cluster.namespace}'"
        for name, cluster in clusters.items()
    ]
    left = [name for cluster in clusters.values() for name in cluster.pods()]
    assert not [name for name in left if name.startswith("slipway-check")]
    assert list(tmp_path.iterdir()) == []
