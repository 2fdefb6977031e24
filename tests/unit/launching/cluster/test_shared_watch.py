"""All who wait in a namespace share one watch, which ends with the last of them."""

import asyncio

import pytest
from stub_api import StubApi, listed

from contract.clients.cluster_errors import ForbiddenError
from launching.cluster import shared_watch as shared_watches
from launching.cluster.shared_watch import shared_watch

FIELDS = {"involvedObject.kind": "Pod"}
EVENT = {"metadata": {"name": "e"}, "involvedObject": {"uid": "u"}}


async def follow(api: StubApi, until: asyncio.Event) -> dict[str, object]:
    async with shared_watch(api.cluster(), "events", FIELDS) as shared:
        await until.wait()
        return dict(shared.watch.found)


def test_three_hundred_who_wait_cost_one_watch(api: StubApi) -> None:
    api.say("GET", "events", listed(EVENT))

    async def run() -> list[dict[str, object]]:
        until = asyncio.Event()
        waiting = [asyncio.create_task(follow(api, until)) for _ in range(300)]
        while not any(request.is_watch for request in api.requests):
            await asyncio.sleep(0.01)
        until.set()
        return await asyncio.gather(*waiting)

    found = asyncio.run(run())
    assert found == [{"e": EVENT}] * 300
    assert [request.is_watch for request in api.requests] == [False, True]
    assert shared_watches._open == {}


def test_who_comes_after_the_last_has_left_begins_another(api: StubApi) -> None:
    api.say("GET", "events", listed())
    until = asyncio.Event()
    until.set()

    async def run() -> None:
        for _ in range(2):
            async with shared_watch(api.cluster(), "events", FIELDS) as shared:
                await shared.watch.changed(20.0)

    asyncio.run(run())
    assert len(api.asked("GET", "events")) == 2


def test_a_refusal_reaches_everybody_and_one_that_leaves_disturbs_nobody(api: StubApi) -> None:
    refusal = {"kind": "Status", "code": 403, "message": "events is forbidden"}
    api.say("GET", "events", refusal)

    async def one() -> None:
        async with shared_watch(api.cluster(), "events", FIELDS) as shared:
            await shared.until_refused()

    async def run() -> list[BaseException | None]:
        tasks = [asyncio.create_task(one()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    left, *told = asyncio.run(run())
    assert isinstance(left, asyncio.CancelledError)
    assert [type(error) for error in told] == [ForbiddenError] * 2


@pytest.fixture(autouse=True)
def nothing_is_left() -> None:
    shared_watches._open.clear()
