"""Short bodies: FastAPI alone reads any into memory, and sends what was wrong back whole."""

import asyncio
import json
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from serving.asgi import ASGIApp, Message, Receive, Scope, Send

_SECONDS = 30.0  # to send a whole body
_SHOWN_ERRORS = 5


class BodyLimit:
    """Receives each body before the application is called; refuses long ones and slow callers."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app, self._most_bytes = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application with the body, or answer 413 or 408."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(_SECONDS):
                body = await self._body(receive)
        except TimeoutError:
            await _refuse(send, 408, f"the body did not come within {_SECONDS:g} s")
            return
        if body is None:
            await _refuse(send, 413, f"expected a body of at most {self._most_bytes:,} bytes")
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def received() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, received, send)

    async def _body(self, receive: Receive) -> bytes | None:
        """Return the body, or what came of it before the caller left; None: it is too long."""
        body = bytearray()
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if len(body) > self._most_bytes:
                return None
            if not message.get("more_body"):
                break
        return bytes(body)


async def explain(_request: Request, error: Any) -> Response:
    """Answer a body or a parameter of the wrong form in words, without what was sent.

    FastAPI's own answer holds it, and fails where JSON cannot: NaN, half a character, raw bytes.
    """
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return JSONResponse({"error": "; ".join(found[:_SHOWN_ERRORS])}, status_code=422)


async def _refuse(send: Send, status: int, words: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"error": words}).encode()})
