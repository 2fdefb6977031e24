"""The object that stands for a job is put back when somebody deletes it, and by nobody else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from stub_api import StubApi, listed

from contract.clients.cluster import Cluster
from contract.errors import ConflictError, NotFoundError
from launching.cluster import claim as claims
from launching.cluster.claim import Claim
from launching.cluster.manifests import GENERATION, TASK

BODY = {"kind": "Service", "metadata": {"name": "job"}, "spec": {"clusterIP": "None"}}
SERVICES = "services"


def service(uid: str, attempt: int = 1, generation: int = 0) -> dict[str, Any]:
    return {
        **BODY,
        "metadata": {
            "name": "job",
            "uid": uid,
            "resourceVersion": "1",
            "labels": {TASK: "t", GENERATION: str(generation)},
            "annotations": {"slipway/attempt": str(attempt), "slipway/state": '{"used": {}}'},
        },
    }


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_SETTLE_SECONDS", 0.0)


def on(api: StubApi, work: Callable[[Claim], Awaitable[Any]], resource: str = SERVICES) -> Claim:
    """Take a job, do something with the claim, and return it."""

    async def run() -> Claim:
        async with Cluster(api.cluster()) as cluster:
            claim = Claim(cluster, resource, {TASK: "t"}, generation=0, attempt=1)
            await claim.take(BODY)
            await work(claim)
            return claim

    return asyncio.run(run())


def test_what_somebody_deleted_is_created_again_with_what_it_said(api: StubApi) -> None:
    absent = {"kind": "Status", "code": 404, "message": "not found"}
    api.say("GET", SERVICES, listed())
    api.say("POST", SERVICES, [service("first"), service("second")])
    api.say("PATCH", SERVICES, [absent, service("second")], "job")
    claim = on(api, lambda claim: claim.save({"used": {"worker": 1}}))
    assert claim.held["metadata"]["uid"] == "second"
    _, again = api.asked("POST", SERVICES)
    assert again.body["spec"] == {"clusterIP": "None"}
    assert again.body["metadata"]["labels"] == {TASK: "t", GENERATION: "0"}
    assert again.body["metadata"]["annotations"]["slipway/state"] == '{"used": {}}'
    *_, saved = api.asked("PATCH", SERVICES, "job")
    assert saved.body["metadata"]["annotations"]["slipway/state"] == '{"used": {"worker": 1}}'


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([service("next", generation=1)], "its task was cleared"),
        ([service("next", attempt=2)], "attempt 1 was overtaken by attempt 2"),
    ],
)
def test_a_successors_is_left_alone(api: StubApi, others: list[dict[str, Any]], words: str) -> None:
    exists = {"kind": "Status", "code": 409, "message": "it exists"}
    api.say("GET", SERVICES, [listed(), listed(*others)])
    api.say("POST", SERVICES, [service("first"), exists])
    api.say("PATCH", SERVICES, {"kind": "Status", "code": 404, "message": "not found"}, "job")
    api.say("GET", SERVICES, others[0], "job")
    with pytest.raises(ConflictError, match=words):
        on(api, lambda claim: claim.save())


def test_what_was_released_stays_gone(api: StubApi) -> None:
    api.say("GET", SERVICES, listed())
    api.say("GET", SERVICES, service("released"), "job")
    api.say("POST", SERVICES, service("released"))
    api.say("DELETE", SERVICES, {}, "job")
    api.say("PATCH", SERVICES, {"kind": "Status", "code": 404, "message": "not found"}, "job")

    async def release_and_save(claim: Claim) -> None:
        assert await claim.release()
        await claim.save()

    with pytest.raises(NotFoundError):
        on(api, release_and_save)
    assert len(api.asked("POST", SERVICES)) == 1


def test_a_job_of_an_operator_is_not_begun_again(api: StubApi) -> None:
    jobs = "kubeflow.org/v1/tfjobs"
    api.say("GET", jobs, listed())
    api.say("POST", jobs, service("first"))
    api.say("PATCH", jobs, {"kind": "Status", "code": 404, "message": "not found"}, "job")
    with pytest.raises(NotFoundError):
        on(api, lambda claim: claim.save(), jobs)
