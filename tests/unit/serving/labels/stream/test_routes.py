"""The stream's addresses: who may look, how many, how long, and that no value leaves its place."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from live_log import LiveLog

from contract.errors import ServiceUnavailableError
from contract.layout import PipelineLayout
from contract.records.access import AgentToken, AgentTokens, Right
from contract.records.traffic import Arm, Shadow, TrafficPlan
from contract.tokens import bearer, token_digest
from serving.labels.page.app import Desk, label_app
from serving.labels.page.door import Door
from serving.labels.page.visitors import Visitors
from serving.labels.stream import routes, traffic
from serving.labels.stream.routes import feed, stream_routes
from serving.labels.stream.rows import Wanted
from serving.labels.stream.traffic import AgentView, Traffic
from serving.labels.stream.watching import Watch, Watches
from serving.token_file import TokenFile

EVIL = '"><script>alert(1)</script>\n\ndata: {}\n\n<img src=x onerror=alert(1)>'
PLAN = TrafficPlan(
    pipeline="digits",
    arms=(
        Arm(name="stable", version=1, weight_percent=95),
        Arm(name="canary", version=2, weight_percent=5),
    ),
    shadow=Shadow(version=3, percent=50),
)


class Site:
    """The application over a log, with tokens of three people."""

    def __init__(self, asking: Any, folder: Path) -> None:
        self.log = LiveLog(PipelineLayout(folder / "artifacts", "digits"))
        self.tokens = folder / "tokens.json"
        self.write_tokens(
            ("watcher", "read", "*"), ("other", "read", "else"), ("ada", "label", "*")
        )
        door = Door(Visitors(TokenFile(self.tokens), "secret"))
        watches = Watches(folder / "artifacts")
        desk = Desk(asking.database, door, logged=watches.pipelines)
        self.app = label_app(desk, stream_routes(door, watches, lambda _: Traffic(PLAN)))

    def write_tokens(self, *known: tuple[str, Right, str]) -> None:
        tokens = tuple(
            AgentToken(
                name=name,
                digest=token_digest(f"token-{name}"),
                rights=(right,),
                pipelines=(pipeline,),
                created_at="2026-11-29T00:00:00Z",
            )
            for name, right, pipeline in known
        )
        AgentTokens(tokens=tokens).write(self.tokens)

    def get(self, path: str, who: str = "watcher") -> Any:
        client = TestClient(self.app, base_url="http://labels", follow_redirects=False)
        return client.get(path, headers=bearer(f"token-{who}"))


@pytest.fixture
def site(asking: Any, tmp_path: Path) -> Site:
    found = Site(asking, tmp_path)
    found.log.package()
    found.log.write({"id": "a", "label": 3}, {"id": "b", "label": 8, "note": EVIL})
    return found


def test_the_page_has_the_traffic_and_a_filter_of_what_there_is(site: Site) -> None:
    assert site.get("/").headers["location"] == "/stream/digits"
    html = site.get("/stream/digits?version=1&class=8&below=0.6").text
    assert "<strong>version 1</strong> stable 95 %" in html
    assert "<strong>version 2</strong> canary 5 %" in html
    assert "version 3</strong> shadow, gets copies of 50 %" in html
    assert "<option selected>1</option>" in html and "<option selected>8</option>" in html
    assert 'data-rows="/stream/digits/rows?version=1&amp;class=8&amp;below=0.6"' in html
    assert "canary 5 %" in site.get("/stream/digits/traffic").text


@pytest.mark.parametrize("path", ["", "/rows", "/traffic"])
@pytest.mark.parametrize(
    ("who", "status", "words"),
    [
        ("ada", 403, "Token 'ada' may not read: it has label."),
        ("other", 403, "Token 'other' may read else only."),
    ],
)
def test_who_may_not_read_sees_nothing(
    site: Site, path: str, who: str, status: int, words: str
) -> None:
    refused = site.get(f"/stream/digits{path}", who)
    assert (refused.status_code, refused.text) == (status, words)


def test_without_a_token_there_is_nothing(site: Site) -> None:
    assert site.get("/stream/digits/rows", "nobody").status_code == 401


@pytest.mark.parametrize("path", ["", "/rows", "/traffic"])
def test_a_pipeline_without_a_log_is_told(site: Site, path: str) -> None:
    refused = site.get(f"/stream/none{path}")
    assert (refused.status_code, "no prediction log of 'none'" in refused.text) == (404, True)


@pytest.mark.parametrize("query", ["version=x", "below=many"])
def test_a_filter_that_is_no_number_is_refused(site: Site, query: str) -> None:
    refused = site.get(f"/stream/digits/rows?{query}")
    assert (refused.status_code, "expected version and below as numbers" in refused.text) == (
        422,
        True,
    )


def test_what_is_asked_for_is_text_on_the_page(site: Site) -> None:
    html = site.get('/stream/digits?class="><script>alert(1)</script>').text
    assert "<script>alert" not in html


def heard(watch: Watch, wanted: Wanted, may_stay: Callable[[], bool], until: str) -> list[str]:
    """Return what a reader hears until a part has some words, or to the end."""

    async def listen() -> list[str]:
        parts = []
        async for part in feed(watch, wanted, may_stay):
            parts.append(part)
            if until in part:
                break
        return parts

    return asyncio.run(listen())


def stay() -> bool:
    return True


def test_a_value_cannot_begin_an_event_of_its_own(site: Site) -> None:
    parts = heard(Watch(site.log.layout), Wanted(), stay, "alert")
    events = "".join(parts).removeprefix("retry: 3000\n\n").split("\n\n")[:-1]
    rows = [json.loads(event.removeprefix("data: ")) for event in events]
    assert [one["row"]["request"] for one in rows] == ["a", "b"]
    assert rows[1]["row"]["cells"] == [["note", EVIL]]


def test_only_what_is_wanted_is_sent_and_a_twin_counts(site: Site) -> None:
    LiveLog(site.log.layout, 2, "shadow").write({"id": "a", "label": 8}, {"id": "c", "label": 3})
    parts = heard(Watch(site.log.layout), Wanted(label="3", version=1), stay, '"twin"')
    rows = [json.loads(part) for part in "".join(parts).split("data: ")[1:]]
    assert [(one["row"]["request"], one["row"]["version"]) for one in rows] == [("a", 1), ("a", 2)]
    assert [one["is_wanted"] for one in rows] == [True, False]
    assert rows[1]["twin"]["answers"][0]["label"] == "3"


def test_who_may_not_stay_hears_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_CHECK_SECONDS", 0.0)
    asked = list[int]()

    def may_stay() -> bool:
        asked.append(1)
        return len(asked) < 3

    assert heard(Watch(site.log.layout), Wanted(), may_stay, "never")
    assert len(asked) == 3


def test_a_reader_who_lost_events_is_told_and_dropped(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "_work", lambda _self: None)  # one thread looks: the test's
    watch = Watch(site.log.layout)
    watch.look()

    async def listen() -> str:
        parts = feed(watch, Wanted(), stay)
        while '"b"' not in await anext(parts):
            pass
        for part in range(6):  # meanwhile the reader does not read on
            site.log.write(*({"id": f"{part}-{n}"} for n in range(200)))
            watch.look()
        lost = await anext(parts)
        with pytest.raises(StopAsyncIteration):
            await anext(parts)
        return lost

    assert asyncio.run(listen()) == "event: lost\ndata: {}\n\n"


async def ask(site: Site, send: Any) -> None:
    """Open the stream as a server does, with a connection that stays open."""
    header = (b"authorization", b"Bearer token-watcher")
    scope = {
        **{"type": "http", "method": "GET", "path": "/stream/digits/rows", "query_string": b""},
        **{"headers": [header], "client": ("127.0.0.1", 1), "server": ("labels", 80)},
        **{"scheme": "http", "root_path": "", "http_version": "1.1"},
    }
    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not never.is_set():
            never.set()
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    await site.app(scope, receive, send)


def test_a_reader_who_takes_nothing_is_dropped_and_its_place_is_free(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "_SLOW_SECONDS", 0.05)
    monkeypatch.setattr(routes, "_MOST_OF_TOKEN", 1)
    started = list[int]()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            started.append(message["status"])
            return
        await asyncio.Event().wait()  # the network takes nothing

    for _ in range(3):
        asyncio.run(ask(site, send))
    assert started == [200, 200, 200]


def test_one_token_has_some_streams_at_a_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_MOST_OF_TOKEN", 2)

    async def open_all() -> list[int]:
        started, has_started = list[int](), asyncio.Event()

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                started.append(message["status"])
                has_started.set()

        tasks = []
        for _ in range(3):
            has_started.clear()
            tasks.append(asyncio.create_task(ask(site, send)))
            await has_started.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return started

    assert asyncio.run(open_all()) == [200, 200, 429]


def test_the_agent_is_asked_once_for_all_and_its_silence_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traffic, "_FRESH_SECONDS", 1e9)
    asked = list[str]()

    def answer(pipeline: str) -> Traffic:
        asked.append(pipeline)
        raise ServiceUnavailableError("http://agent: no answer")

    view = AgentView(answer)
    assert view.of("digits").problem == "The traffic is not known: http://agent: no answer"
    assert view.of("digits") == view.of("digits") and asked == ["digits"]


def test_nobody_waits_for_an_agent_that_hangs() -> None:
    is_asked, may_answer = threading.Event(), threading.Event()

    def answer(_pipeline: str) -> Traffic:
        is_asked.set()
        may_answer.wait(60)
        return Traffic(PLAN)

    view = AgentView(answer)
    asking = threading.Thread(target=view.of, args=("digits",))
    asking.start()
    assert is_asked.wait(60)
    assert view.of("digits") == Traffic()
    may_answer.set()
    asking.join(60)
    assert view.of("digits") == Traffic(PLAN)
