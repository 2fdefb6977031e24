"""The addresses of the stream: the page, its rows as server-sent events, and the traffic."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from contract.errors import DataError
from contract.records.prediction import ARMS
from serving.asgi import Message, Receive, Scope, Send
from serving.labels.page.door import Door, RefusedError
from serving.labels.page.visitors import Refused, Visitor
from serving.labels.stream.rows import Wanted
from serving.labels.stream.traffic import AgentView, Ask
from serving.labels.stream.watching import Event, LostError, Watch, Watches

_PAUSE_SECONDS = 0.25  # between two looks for news
_BEAT_SECONDS = 10.0  # without news a comment is sent, so that proxies keep the connection
_CHECK_SECONDS = 5.0  # so soon a token that was removed sees nothing more
_SLOW_SECONDS = 20.0  # for which nothing can be sent to a reader, who is dropped then
_MOST_READERS, _MOST_OF_TOKEN = 64, 6
_AT_ONCE = 100  # events in one message


def stream_routes(door: Door, watches: Watches, ask: Ask) -> APIRouter:
    """Return the routes below `/stream`, for tokens with the right `read`."""
    router, traffic, readers = APIRouter(), AgentView(ask), _Readers()

    @router.get("/stream/{pipeline}")
    def page(request: Request, pipeline: str) -> Response:
        visitor = door.visitor(request, "read", pipeline)
        watch, wanted = watches.of(pipeline), wanted_of(request)
        return HTMLResponse(
            door.draw(
                "stream.html",
                pipeline=pipeline,
                wanted=wanted,
                versions=watch.versions(),
                arms=ARMS,
                classes=watch.classes,
                traffic=traffic.of(pipeline),
                query=request.url.query,
                mark=visitor.mark or "",
            )
        )

    @router.get("/stream/{pipeline}/traffic")
    def weights(request: Request, pipeline: str) -> Response:
        door.visitor(request, "read", pipeline)
        watches.of(pipeline)
        return HTMLResponse(door.draw("traffic.html", traffic=traffic.of(pipeline)))

    @router.get("/stream/{pipeline}/rows")
    def rows(request: Request, pipeline: str) -> Response:
        visitor = door.visitor(request, "read", pipeline)
        watch, wanted = watches.of(pipeline), wanted_of(request)
        readers.check(visitor)

        def may_stay() -> bool:
            found = door.visitors.who(request)
            return isinstance(found, Visitor) and found.token.may("read", pipeline)

        return _Events(feed(watch, wanted, may_stay), readers, visitor.name)

    return router


def wanted_of(request: Request) -> Wanted:
    """Return the filter of an address; what is empty does not count.

    Raises:
        DataError: If a number is none.
    """
    sent = request.query_params
    try:
        version = int(sent["version"]) if sent.get("version") else None
        below = float(sent["below"]) if sent.get("below") else None
    except ValueError as error:
        raise DataError(f"expected version and below as numbers: {error}") from error
    return Wanted(version, sent.get("arm") or None, sent.get("class") or None, below)


class _Readers:
    """How many look now: each keeps a connection open."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def check(self, visitor: Visitor) -> None:
        """Refuse one too many."""
        if self._open.total() >= _MOST_READERS or self._open[visitor.name] >= _MOST_OF_TOKEN:
            words = (
                f"Too many streams are open: {_MOST_OF_TOKEN} of a token, {_MOST_READERS} of all."
            )
            raise RefusedError(Refused(429, words), 10.0)

    @contextmanager
    def counted(self, name: str) -> Iterator[None]:
        """Count a reader while it is open."""
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1


async def feed(watch: Watch, wanted: Wanted, may_stay: Callable[[], bool]) -> AsyncIterator[str]:
    """Yield the text of server-sent events until the reader may not stay, or was too slow."""
    seen, sent_at, checked_at = 0, time.monotonic(), time.monotonic()
    yield "retry: 3000\n\n"
    while True:
        now = time.monotonic()
        if now > checked_at + _CHECK_SECONDS:
            checked_at = now
            if not await asyncio.to_thread(may_stay):
                return
        try:
            events = watch.since(seen)[:_AT_ONCE]
        except LostError:
            yield "event: lost\ndata: {}\n\n"
            return
        seen = events[-1].number if events else seen
        if text := "".join(_text(event, wanted) for event in events if _is_wanted(event, wanted)):
            sent_at = now
            yield text
        elif now > sent_at + _BEAT_SECONDS:
            sent_at = now
            yield ":\n\n"
        if len(events) < _AT_ONCE:
            await asyncio.sleep(_PAUSE_SECONDS)


def _is_wanted(event: Event, wanted: Wanted) -> bool:
    return wanted.has(event.row) or (event.twin is not None and wanted.has(event.twin))


def _text(event: Event, wanted: Wanted) -> str:
    """Return an event; a row that is there for its twin only is not wanted by itself.

    JSON has no line break, so that no value can begin an event of its own.
    """
    is_wanted = wanted.has(event.row)
    sent = {"row": event.row.as_json, "left_out": event.left_out, "is_wanted": is_wanted}
    if event.twin is not None:
        sent["twin"] = event.twin.as_json
    return f"data: {json.dumps(sent)}\n\n"


class _Events(StreamingResponse):
    """Server-sent events; a reader who takes nothing for a while is dropped."""

    def __init__(self, feed: AsyncIterator[str], readers: _Readers, name: str) -> None:
        headers = {"x-accel-buffering": "no"}  # nginx passes them on at once
        super().__init__(feed, headers=headers, media_type="text/event-stream")
        self._readers, self._name = readers, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            await asyncio.wait_for(send(message), _SLOW_SECONDS)

        with self._readers.counted(self._name), suppress(TimeoutError):
            await super().__call__(scope, receive, send_in_time)
