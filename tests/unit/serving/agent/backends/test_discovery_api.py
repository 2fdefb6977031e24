"""An Envoy's question is held until something new is published, and looked at only then."""

import asyncio
import threading
import time
from typing import Any

import httpx
import pytest

from serving.agent.backends import discovery_api as api
from serving.traffic.envoy.discovery import HOLD_SECONDS, DiscoveryChannel

QUESTION = {"node": {"id": "10.0.0.1:9901"}}


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> DiscoveryChannel:
    channel = DiscoveryChannel(lambda _host: False)
    looks = channel.looks = []  # type: ignore[attr-defined]
    answer = channel.answer

    def counted(kind: Any, question: Any) -> str | None:
        looks.append(kind)
        return answer(kind, question)

    monkeypatch.setattr(channel, "answer", counted)
    return channel


async def asked(app: object, version: str = "") -> httpx.Response:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    headers = {"authorization": "Bearer t"}
    async with httpx.AsyncClient(transport=transport, headers=headers) as client:
        body = {**QUESTION, "version_info": version}
        return await client.post("http://agent/discovery:clusters", json=body)


def test_a_held_question_is_answered_when_another_thread_publishes(channel) -> None:
    app = api.discovery_api(channel, "t")

    async def held() -> tuple[list[httpx.Response], float]:
        asking = [asyncio.create_task(asked(app)) for _ in range(3)]
        while len(channel.looks) < 3:
            await asyncio.sleep(0.001)
        started = time.monotonic()
        threading.Thread(target=channel.publish, args=("clusters", [{"name": "a"}])).start()
        return await asyncio.gather(*asking), time.monotonic() - started

    answers, seconds = asyncio.run(held())
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert all('"a"' in answer.text for answer in answers)
    assert seconds < HOLD_SECONDS
    assert len(channel.looks) == 6, "each looks when it comes, and when there is something new"


def test_without_news_the_question_ends_after_a_while(channel, monkeypatch) -> None:
    monkeypatch.setattr(api, "HOLD_SECONDS", 0.05)
    version = channel.publish("clusters", [{"name": "a"}])
    answer = asyncio.run(asked(api.discovery_api(channel, "t"), version))
    assert answer.status_code == 304
    assert len(channel.looks) <= 3


def test_who_publishes_after_the_servers_end_is_not_disturbed(channel) -> None:
    app = api.discovery_api(channel, "t")
    channel.publish("clusters", [])
    asyncio.run(asked(app))
    channel.publish("clusters", [{"name": "late"}])  # its loop is closed
    assert channel.current("clusters") == [{"name": "late"}]
