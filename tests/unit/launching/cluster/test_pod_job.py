"""What a job of plain pods makes of the records that its chief leaves."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from stub_api import StubApi, pod

from contract.clients.cluster import Cluster
from contract.records.training import Hang
from contract.schema.cluster import KubernetesConfig, PodConfig
from launching.cluster.claim import Claim
from launching.cluster.pods import SERVICES, PodJob
from launching.job_spec import JobSpec, Replica
from launching.restarts import End

NOTED = datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC)


def ends(api: StubApi, folder: Path, created: str) -> list[End]:
    """Return the ends that a look at three running pods finds, all created at one time."""
    replicas = {"chief": 1, "worker": 2}
    job = JobSpec(name="job", step="train", command=("true",), replicas=replicas, hangs=str(folder))
    kubernetes = KubernetesConfig(
        clusters={"one": api.cluster()}, default_cluster="one", pod=PodConfig(image="i:1")
    )

    async def look() -> list[End]:
        async with Cluster(api.cluster()) as cluster:
            claim = Claim(cluster, SERVICES, {}, 0, 1)
            driver = PodJob(cluster, job, kubernetes, claim, lambda *_: None)
            for replica in job.members():
                name = f"job-{replica}-0"
                driver._pods.found[name] = pod(name, metadata={"creationTimestamp": created})
            await driver._look()
            return list(driver._ends.values())

    return asyncio.run(look())


def test_a_pod_that_hangs_by_the_chiefs_record_counts_as_vanished(
    api: StubApi, tmp_path: Path
) -> None:
    hang = Hang(role="worker-1", reason="not heard of for 8 s", noted_at=NOTED)
    hang.write(tmp_path / "worker-1.json")
    expected = End(Replica("worker", 1), None, "hung: not heard of for 8 s")
    assert ends(api, tmp_path, "2026-01-01T12:00:04Z") == [expected]


def test_a_pod_that_was_made_after_the_record_does_not_hang(api: StubApi, tmp_path: Path) -> None:
    hang = Hang(role="worker-1", reason="not heard of for 8 s", noted_at=NOTED)
    hang.write(tmp_path / "worker-1.json")
    assert ends(api, tmp_path, "2026-01-01T12:00:06Z") == []
