"""What a stranger's body may cost an application, and what it is told."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient
from pydantic import BaseModel

from serving import short_bodies
from serving.asgi import Message
from serving.short_bodies import BodyLimit, explain


class Named(BaseModel):
    name: str


@pytest.fixture
def http() -> TestClient:
    app = FastAPI()
    app.add_middleware(BodyLimit, most_bytes=100)
    app.add_exception_handler(RequestValidationError, explain)

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    @app.post("/named")
    def named(one: Named) -> str:
        return one.name

    return TestClient(app, headers={"content-type": "application/json"})


def test_a_body_is_passed_on_whole_and_one_that_is_too_long_refused(http: TestClient) -> None:
    assert http.post("/length", content=iter([b"a" * 60, b"a" * 40])).json() == 100
    assert http.post("/length").json() == 0
    refused = http.post("/length", content=iter([b"a" * 60, b"a" * 41]))
    assert (refused.status_code, refused.json()["error"]) == (
        413,
        "expected a body of at most 100 bytes",
    )


@pytest.mark.parametrize("body", [b'{"name": NaN}', b'{"name": ["\\ud800"]}', b"\xff", b"[", b"1"])
def test_what_json_cannot_hold_is_explained_without_it(http: TestClient, body: bytes) -> None:
    refused = http.post("/named", content=body)
    assert refused.status_code in (400, 422)
    assert "NaN" not in refused.text


def test_who_sends_its_body_too_slowly_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_bodies, "_SECONDS", 0.01)
    sent: list[Any] = []

    async def never() -> Message:
        await asyncio.Event().wait()
        return {}

    async def send(message: Message) -> None:
        sent.append(message)

    async def unreached(*_: Any) -> None:
        raise AssertionError("the application was called without a body")

    asyncio.run(BodyLimit(unreached, 100)({"type": "http"}, never, send))
    assert sent[0]["status"] == 408
