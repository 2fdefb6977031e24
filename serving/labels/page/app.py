"""The addresses of the label page. A browser gets HTML, a program that asks for JSON gets that."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from serving.labels.page.conflicts import Judge, by_votes
from serving.labels.page.door import (
    FOLDER,
    Door,
    address_of,
    harden,
    is_by_htmx,
    let_people_in,
    wants_json,
)
from serving.labels.page.forms import Reply, fields, reply_of
from serving.labels.page.keys import choices
from serving.labels.page.review import review_routes
from serving.labels.page.shown import shown
from serving.labels.page.visitors import Visitor
from serving.labels.store.answering import answer, skip, undo
from serving.labels.store.database import Database
from serving.labels.store.questions import next_questions, pipelines, topic_id
from serving.labels.store.records import Asked, Topic
from serving.labels.store.standing import leaders, standing

_IN_HAND = 2  # questions: the one that is shown, and the next, which is loaded already
# Of a standing; how many questions are done would tell which ones are gold: those change nothing.
_OWN = ("name", "points", "streak", "answers")


@dataclass(frozen=True)
class Desk:
    """What the page works with. `now` is the server's clock: no other one counts."""

    database: Database
    door: Door
    judge: Judge = by_votes
    logged: Callable[[], Sequence[str]] = list  # pipelines whose predictions are streamed
    now: Callable[[], float] = time.time


def label_app(desk: Desk, *more: APIRouter) -> FastAPI:
    """Return the application, with pages of other rooms."""
    app = FastAPI(title="Slipway labels", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/")
    def topics(request: Request) -> Response:
        return _topics(desk, desk.door.visitor(request))

    harden(app, desk.door)
    let_people_in(app, desk.door)
    _ask(app, desk.door, _Pages(desk), desk.database)
    for router in (review_routes(desk.door, desk.database, desk.judge, desk.now), *more):
        app.include_router(router)
    return app


def _topics(desk: Desk, visitor: Visitor) -> Response:
    links = [*_links(pipelines(desk.database), visitor), *_streams(desk.logged(), visitor)]
    if len(links) == 1:
        return RedirectResponse(links[0][0], 303)
    return HTMLResponse(desk.door.draw("topics.html", links=links, mark=visitor.mark or ""))


def _links(known: list[tuple[str, str]], visitor: Visitor) -> Iterator[tuple[str, str]]:
    """Yield addresses that somebody may open, with their names."""
    for pipeline, head in known:
        if visitor.token.may("label", pipeline):
            yield address_of(pipeline, head), f"{pipeline}: {head}"
        if visitor.token.may("review", pipeline):
            yield address_of(pipeline, head, "review"), f"{pipeline}: {head}, review conflicts"


def _streams(known: Sequence[str], visitor: Visitor) -> Iterator[tuple[str, str]]:
    for pipeline in known:
        if visitor.token.may("read", pipeline):
            yield f"/stream/{quote(pipeline, safe='')}", f"{pipeline}: predictions"


def _ask(app: FastAPI, door: Door, pages: "_Pages", database: Database) -> None:
    @app.get("/p/{pipeline}")
    def question(request: Request, pipeline: str, head: str = "") -> Response:
        visitor = door.visitor(request, "label", pipeline)
        return pages.work(request, visitor, *topic_id(database, pipeline, head))

    @app.post("/p/{pipeline}")
    async def reply(request: Request, pipeline: str, head: str = "") -> Response:
        visitor = door.visitor(request, "label", pipeline)
        said = reply_of(await fields(request))
        door.check_mark(request, visitor, said.mark)
        return await run_in_threadpool(pages.reply, request, visitor, (pipeline, head), said)

    @app.get("/p/{pipeline}/leaders")
    def board(request: Request, pipeline: str, head: str = "") -> Response:
        visitor = door.visitor(request, "label", pipeline)
        return pages.leaders(visitor, pipeline, head)


class _Pages:
    """What the addresses answer."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def reply(
        self, request: Request, visitor: Visitor, about: tuple[str, str], said: Reply
    ) -> Response:
        """Do what was said, and return the next question."""
        database, now = self._desk.database, self._desk.now()
        number, topic = topic_id(database, *about)
        if said.action == "undo":
            undo(database, number, visitor.name, now)
        elif said.action == "skip":
            skip(database, said.question, visitor.name, now)
        else:
            label = said.label if said.action == "answer" else None
            answer(database, said.question, visitor.name, label, now)
        if is_by_htmx(request) or wants_json(request):
            return self.work(request, visitor, number, topic)
        return RedirectResponse(address_of(topic.pipeline, topic.head), 303)

    def work(self, request: Request, visitor: Visitor, number: int, topic: Topic) -> Response:
        """Return the question in a labeller's hands, with the next one."""
        database = self._desk.database
        held = next_questions(database, number, visitor.name, self._desk.now(), _IN_HAND)
        reached = standing(database, number, visitor.name)
        if wants_json(request):
            own = {name: getattr(reached, name) for name in _OWN}
            return JSONResponse({"questions": [vars(one) for one in held], "standing": own})
        template = "work.html" if is_by_htmx(request) else "question.html"
        page = self._desk.door.draw(
            template,
            topic=topic,
            standing=reached,
            cards=[_card(one, topic) for one in held],
            mark=visitor.mark or "",
            address=address_of(topic.pipeline, topic.head),
            words="",
        )
        return HTMLResponse(page)

    def leaders(self, visitor: Visitor, pipeline: str, head: str) -> Response:
        _, topic = topic_id(self._desk.database, pipeline, head)
        page = self._desk.door.draw(
            "leaders.html",
            leaders=leaders(self._desk.database),
            own=visitor.name,
            back=address_of(topic.pipeline, topic.head),
        )
        return HTMLResponse(page)


def _card(asked: Asked, topic: Topic) -> Mapping[str, Any]:
    large, others = choices(topic.classes, asked.guesses)
    inputs = shown(asked.inputs, topic.features)
    return {"question": asked.question, "shown": inputs, "large": large, "others": others}
