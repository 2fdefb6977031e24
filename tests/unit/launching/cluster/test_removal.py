"""Pods are waited for until they hold nothing, whatever keeps their objects."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from stub_api import StubApi, listed

from contract.clients.cluster import Cluster
from launching.cluster.removal import remove_pods

KEPT = {"deletionTimestamp": "2026-01-01T12:00:00Z", "finalizers": ["kueue.x-k8s.io/managed"]}
ENDED = {"spec": {"nodeName": "node"}, "status": {"phase": "Failed"}}
RUNNING = {"spec": {"nodeName": "node"}, "status": {"phase": "Running"}}
GATED = {"spec": {"schedulingGates": [{"name": "gate"}]}, "status": {"phase": "Pending"}}


def pod(metadata: Any, **parts: Any) -> Any:
    known = {"name": "p", "uid": "u", "resourceVersion": "1"}
    return {"metadata": {**known, **metadata}, **parts}


@pytest.mark.parametrize(
    ("body", "is_waited_for"),
    [
        (pod(KEPT, **ENDED), False),
        (pod(KEPT, **GATED), False),
        (pod(KEPT, **RUNNING), True),
        (pod({}, **ENDED), True),
        (pod({"finalizers": KEPT["finalizers"]}, **ENDED), True),
    ],
)
def test_a_deleted_pod_that_only_a_finalizer_keeps_is_not_waited_for(
    body: Any, is_waited_for: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launching.cluster.removal._LOOK_SECONDS", 0.01)

    async def remove() -> None:
        async with Cluster(api.cluster()) as cluster:
            await remove_pods(cluster, {"job": "a"}, 0, lambda _: True)

    with StubApi(tmp_path) as api:
        api.say("GET", "pods", [listed(body), listed()])
        asyncio.run(remove())
        looks = [request for request in api.requests if request.method == "GET"]
    assert len(looks) == 1 + is_waited_for
