"""The address by which programs tell what has turned out to be true of predictions."""

import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from contract.errors import DataError
from serving.labels.page.door import Door
from serving.labels.page.forms import body_of
from serving.labels.page.visitors import Visitor
from serving.labels.store.database import Database
from serving.labels.store.questions import topic_id
from serving.labels.store.records import Truth
from serving.labels.store.truths import tell

MOST_LABELS, MOST_BYTES = 1_000, 256 * 1024  # of one message
_EXPECTED = (
    'expected {"labels": [{"request_id": "...", "row": 0, "label": "..."}, ...]} with 1 to '
    f"{MOST_LABELS:,} labels"
)


def truth_routes(door: Door, database: Database, now: Callable[[], float]) -> APIRouter:
    """Return the route `/truth`, for tokens with the right `report`, in a header only."""
    router = APIRouter()

    @router.post("/truth/{pipeline}")
    async def truth(request: Request, pipeline: str, head: str = "") -> Response:
        visitor = door.visitor(request, "report", pipeline)
        said = truths_in(await body_of(request, MOST_BYTES))
        return await run_in_threadpool(store, visitor, (pipeline, head), said)

    def store(visitor: Visitor, about: tuple[str, str], said: list[Truth]) -> Response:
        topic = topic_id(database, *about)
        return JSONResponse(vars(tell(database, topic, said, visitor.name, now())))

    return router


def truths_in(body: bytes) -> list[Truth]:
    """Return the labels of a message.

    Raises:
        DataError: If it is none.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{_EXPECTED}; found no JSON: {error}") from error
    labels = found.get("labels") if isinstance(found, dict) else None
    if not isinstance(labels, list) or not 0 < len(labels) <= MOST_LABELS:
        count = f"{len(labels):,} labels" if isinstance(labels, list) else "no list of labels"
        raise DataError(f"{_EXPECTED}; found {count}")
    return [_truth(number, one) for number, one in enumerate(labels)]


def _truth(number: int, one: Any) -> Truth:
    fields = {"row": 0, **one} if isinstance(one, dict) else {}
    kinds = {name: type(value) for name, value in fields.items()}
    if kinds != {"request_id": str, "row": int, "label": str}:
        raise DataError(f"{_EXPECTED}; found in label {number}: {str(one)[:100]}")
    try:
        (fields["request_id"] + fields["label"]).encode()
    except UnicodeEncodeError as error:  # a lone surrogate is no text
        raise DataError(f"label {number}: {error.reason}") from error
    return Truth(**fields)
