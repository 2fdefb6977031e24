"""A job is removed with all that is its own, and nothing else."""

import asyncio
from typing import Any

from stub_api import StubApi, listed, path_of, pod

from contract.clients.cluster import Cluster
from contract.schema.cluster import KubernetesConfig, PodConfig
from launching.cluster.claim import Claim
from launching.cluster.pods import SERVICES, PodJob
from launching.job_spec import JobSpec

JOB = JobSpec(name="job", step="train", command=("true",), replicas={"chief": 1})
SERVICE = {
    "kind": "Service",
    "metadata": {
        "name": "job",
        "uid": "first",
        "resourceVersion": "1",
        "annotations": {"slipway/attempt": "1"},
    },
}


def owned_by(uid: str, name: str) -> dict[str, Any]:
    owner = {"kind": "Service", "name": "job", "uid": uid}
    return pod(name, metadata={"ownerReferences": [owner]})


def test_a_killed_jobs_successor_keeps_its_pods(api: StubApi) -> None:
    own, successors = owned_by("first", "own"), owned_by("second", "successors")
    api.say("GET", SERVICES, SERVICE, "job")
    api.say("DELETE", SERVICES, {}, "job")
    api.say("GET", "pods", [listed(own, successors), listed(successors)])
    api.say("DELETE", "pods", {}, "own")

    async def kill() -> bool:
        kubernetes = KubernetesConfig(
            clusters={"one": api.cluster()}, default_cluster="one", pod=PodConfig(image="i:1")
        )
        async with Cluster(api.cluster()) as cluster:
            claim = Claim(cluster, SERVICES, {}, 0, 1)
            return await PodJob(cluster, JOB, kubernetes, claim, lambda *_: None).kill()

    assert asyncio.run(kill())
    deleted = {r.path: r.body["preconditions"]["uid"] for r in api.asked("DELETE")}
    assert deleted == {path_of(SERVICES, "job"): "first", path_of("pods", "own"): "uid-own"}
