"""Where Envoys elsewhere ask for their configuration: xDS, its REST form."""

import asyncio
import contextlib
import hmac
import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from serving.traffic.envoy.discovery import HOLD_SECONDS, DiscoveryChannel, Question, kind_of


class _News:
    """Wakes the questions that are held, from any thread."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self) -> None:
        """Hear from now on what is told: before looking at what there is."""
        self._loop = asyncio.get_running_loop()

    async def wait(self, seconds: float) -> None:
        """Wait for the next that is told, or until the time is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)

    def tell(self) -> None:
        """Wake who waits."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the server has ended: nobody waits
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._event.set()
        self._event = asyncio.Event()


def discovery_api(channel: DiscoveryChannel, token: str) -> FastAPI:
    """Return the app; it is mounted at `/v3`, where Envoy expects it."""
    app = FastAPI(title="Envoy discovery", docs_url=None, redoc_url=None, openapi_url=None)
    _ask_for_token(app, token)
    news = _News()
    channel.on_news = news.tell

    @app.post("/discovery:{name}")
    async def discover(name: str, request: Request) -> Response:
        kind = kind_of(name)
        if kind is None:
            return Response(f"no documents of kind '{name}' here", status_code=404)
        try:
            question = Question.model_validate_json(await request.body())
        except ValidationError as error:
            return Response(f"not a discovery request: {error}", status_code=400)
        news.listen()
        until = time.monotonic() + HOLD_SECONDS
        while (text := channel.answer(kind, question)) is None:
            if (left := until - time.monotonic()) <= 0:
                return Response(status_code=304)
            await news.wait(left)
        return Response(text, media_type="application/json")

    return app


def _ask_for_token(app: FastAPI, token: str) -> None:
    """Let the app refuse requests without the bearer token."""

    @app.middleware("http")
    async def check_token(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        given = request.headers.get("authorization", "").encode()
        is_known = hmac.compare_digest(given, f"Bearer {token}".encode())
        if not is_known:
            words = "expected the header 'Authorization: Bearer <Envoys' token>'"
            return JSONResponse({"error": words}, status_code=401)
        return await call_next(request)
