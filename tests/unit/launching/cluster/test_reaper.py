"""What nobody came back for is removed, of whatever kind it is; nothing else is."""

import asyncio
from typing import Any

import pytest
from stub_api import StubApi, listed

from contract.clients.cluster import Cluster
from launching.cluster.kinds import RESOURCES
from launching.cluster.reaper import reap

LONG_AGO, JUST_NOW = "2020-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"


def job(name: str, seen: str) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": "3"}
    return {"metadata": {**metadata, "annotations": {"slipway/seen": seen}}}


def reaped(api: StubApi) -> list[str]:
    async def run() -> list[str]:
        async with Cluster(api.cluster()) as cluster:
            return await reap(cluster, 3600)

    return asyncio.run(run())


@pytest.mark.parametrize("resource", RESOURCES.values())
def test_a_job_of_any_kind_that_nobody_looks_after_is_removed(resource: str, api: StubApi) -> None:
    api.say("GET", "pods", listed())
    api.say("GET", resource, listed(job("old", LONG_AGO), job("new", JUST_NOW)))
    api.say("DELETE", resource, {}, "old")
    assert reaped(api) == ["old"]
    (deletion,) = api.asked("DELETE")
    assert deletion.body == {
        "preconditions": {"uid": "uid-old", "resourceVersion": "3"},
        "propagationPolicy": "Background",
    }


def test_what_was_adopted_meanwhile_stays(api: StubApi) -> None:
    api.say("GET", "services", listed(job("old", LONG_AGO)))
    api.say("DELETE", "services", {"kind": "Status", "code": 409, "message": "changed"}, "old")
    assert reaped(api) == []


def test_kinds_that_are_not_installed_or_not_allowed_do_not_disturb(api: StubApi) -> None:
    forbidden = {"kind": "Status", "code": 403, "message": "tfjobs is forbidden"}
    api.say("GET", RESOURCES["tfjob"], forbidden)
    assert reaped(api) == []
