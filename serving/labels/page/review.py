"""The reviewer's page: conflicts one after the other, who said what, and what is decided."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from serving.labels.page.conflicts import LEAST_CONFIDENCE, Conflicts, Judge, Opinion, Queue
from serving.labels.page.door import Door, address_of, is_by_htmx, wants_json
from serving.labels.page.forms import Reply, fields, reply_of
from serving.labels.page.keys import choices
from serving.labels.page.shown import shown
from serving.labels.page.visitors import Visitor
from serving.labels.store.database import Database
from serving.labels.store.questions import topic_id
from serving.labels.store.records import Disputed, Topic
from serving.labels.store.reviewing import decide, decided, disputed, take_back


def review_routes(
    door: Door, database: Database, judge: Judge, now: Callable[[], float]
) -> APIRouter:
    """Return the routes below `/review`, for tokens with the right `review`."""
    router, pages = APIRouter(), _Pages(door, database, judge, now)

    @router.get("/review/{pipeline}")
    def conflict(request: Request, pipeline: str, head: str = "", after: int = 0) -> Response:
        visitor = door.visitor(request, "review", pipeline)
        return pages.conflict(request, visitor, topic_id(database, pipeline, head), after)

    @router.post("/review/{pipeline}")
    async def decision(request: Request, pipeline: str, head: str = "") -> Response:
        visitor = door.visitor(request, "review", pipeline)
        said = reply_of(await fields(request))
        door.check_mark(request, visitor, said.mark)
        return await run_in_threadpool(pages.decision, request, visitor, (pipeline, head), said)

    return router


class _Pages:
    """What the addresses answer."""

    def __init__(
        self, door: Door, database: Database, judge: Judge, now: Callable[[], float]
    ) -> None:
        self._door, self._database, self._now = door, database, now
        self._conflicts = Conflicts(database, judge)

    def decision(
        self, request: Request, visitor: Visitor, about: tuple[str, str], said: Reply
    ) -> Response:
        """Do what was said, and return the next conflict; after an undo, the same one again."""
        number, topic = topic_id(self._database, *about)
        after, first = said.question, 0
        if said.action == "undo":
            first = take_back(self._database, number, visitor.name, self._now())
        elif said.action != "skip":
            label = said.label if said.action == "answer" else None
            place = (number, said.question)
            decide(self._database, place, visitor.name, label, self._now())
        if is_by_htmx(request) or wants_json(request):
            return self.conflict(request, visitor, (number, topic), after, first)
        back = address_of(topic.pipeline, topic.head, "review")
        return RedirectResponse(back if first else f"{back}&after={after}", 303)

    def conflict(
        self,
        request: Request,
        visitor: Visitor,
        about: tuple[int, Topic],
        after: int,
        first: int = 0,
    ) -> Response:
        """Return the conflict behind a question, or a certain one, with the number of all."""
        number, topic = about
        queue = self._conflicts.of(number, topic)
        done = decided(self._database, number)
        left = [one for one in queue.questions if one not in done]
        chosen = first or queue.after(after, done.__contains__)
        shown_one = disputed(self._database, number, chosen) if chosen else None
        card = None if shown_one is None else self._card(shown_one, topic, queue.opinion)
        if wants_json(request):
            inputs = {} if shown_one is None else {"inputs": shown_one.inputs}
            found = None if card is None else {**inputs, **_facts(card)}
            return JSONResponse({"conflicts": len(left), "question": found})
        page = self._door.draw(
            "conflict.html" if is_by_htmx(request) else "review.html",
            topic=topic,
            card=card,
            left=len(left),
            unsure=_unsure(queue, left),
            decided=len(done),
            mark=visitor.mark or "",
            address=address_of(topic.pipeline, topic.head, "review"),
        )
        return HTMLResponse(page)

    def _card(self, found: Disputed, topic: Topic, opinion: Opinion) -> dict[str, Any]:
        votes = Counter(label for _, label in found.said if label is not None)
        best = [(label, votes[label] / votes.total()) for label, _ in votes.most_common()]
        large, others = choices(topic.classes, best or found.guesses)
        return {
            "question": found.question,
            "shown": shown(found.inputs, topic.features),
            "guesses": found.guesses,
            "said": [self._said(who, label, opinion) for who, label in found.said],
            "consensus": opinion.labels.get(found.question),
            "large": large,
            "others": others,
        }

    def _said(self, who: str, label: str | None, opinion: Opinion) -> Mapping[str, Any]:
        """Return an answer with a name that is always the same person's, and not their own."""
        name = self._door.visitors.pseudonym(who)
        return {"person": name, "label": label, "right_ratio": opinion.right_ratios.get(who)}


def _facts(card: Mapping[str, Any]) -> dict[str, Any]:
    return {name: card[name] for name in ("question", "guesses", "said", "consensus")}


def _unsure(queue: Queue, left: list[int]) -> int:
    labels = queue.opinion.labels
    return sum(labels.get(one, ("", 0.0))[1] < LEAST_CONFIDENCE for one in left)
