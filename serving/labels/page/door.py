"""The door of all pages: who comes in, what each answer carries, and each refusal in words."""

import logging
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader

from contract.errors import (
    ConflictError,
    DataError,
    NotFoundError,
    ServiceUnavailableError,
    SlipwayError,
)
from contract.places import CODE_FOLDER
from contract.records.access import Right
from serving.asgi import ASGIApp, Message, Receive, Scope, Send
from serving.labels.page.forms import fields
from serving.labels.page.limits import Limit
from serving.labels.page.visitors import (
    COOKIE,
    Refused,
    Visitor,
    Visitors,
    is_forged,
    is_from_elsewhere,
)

log = logging.getLogger("slipway")

FOLDER = CODE_FOLDER / "serving" / "labels" / "page"

_NOT_OURS = "This form is not from this page: load the page again."
_LATER = "The database of labels does not answer now: nothing was changed, try again."
_STATUS: tuple[tuple[type[SlipwayError], int], ...] = (
    (NotFoundError, 404),
    (DataError, 422),
    (ConflictError, 409),
    (ServiceUnavailableError, 503),
    (SlipwayError, 500),
)
# Nothing from elsewhere, no script or style in the page itself, and in nobody else's frame.
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors "
    ),
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class RefusedError(Exception):
    """Ends a request that somebody may not make."""

    def __init__(self, refused: Refused, wait_seconds: float = 0.0) -> None:
        super().__init__(refused.words)
        self.refused = refused
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class Door:
    """Lets people in by their tokens, not too often, and draws the pages."""

    visitors: Visitors
    is_secure: bool = False  # the browser reaches it by https alone
    framed_by: str = "'none'"  # who may show the pages in a frame, as the policy names them
    per_token: Limit = field(default_factory=lambda: Limit(per_second=5, burst=30))
    per_address: Limit = field(default_factory=lambda: Limit(per_second=0.5, burst=20))
    templates: Environment = field(
        default_factory=lambda: Environment(
            loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, trim_blocks=True
        )
    )

    def draw(self, template: str, **values: Any) -> str:
        """Return a page, or a part of one."""
        return self.templates.get_template(template).render(**values)

    def visitor(self, request: Request, right: Right | None = None, pipeline: str = "") -> Visitor:
        """Return who asks, if they may, and not too often.

        Raises:
            RefusedError: If they may not.
        """
        visitor = self.visitors.who(request)
        if isinstance(visitor, Refused):
            self._count_wrong(request, visitor)
            raise RefusedError(visitor)
        self._count(self.per_token, visitor.name)
        token = visitor.token
        if right is not None and right not in token.rights:
            words = f"Token '{token.name}' may not {right}: it has {', '.join(token.rights)}."
            raise RefusedError(Refused(403, words))
        if right is not None and not token.may(right, pipeline):
            words = f"Token '{token.name}' may {right} {', '.join(token.pipelines)} only."
            raise RefusedError(Refused(403, words))
        return visitor

    def check_mark(self, request: Request, visitor: Visitor, mark: str) -> None:
        """Refuse a form of another site's page."""
        if is_forged(request, visitor, mark):
            raise RefusedError(Refused(403, _NOT_OURS))

    def log_in(self, request: Request, given: str) -> Response:
        """Return the cookie for a token, or the form again."""
        if is_from_elsewhere(request):
            raise RefusedError(Refused(403, _NOT_OURS))
        found = self.visitors.log_in(given)
        if isinstance(found, Refused):
            self._count_wrong(request, found)
            return HTMLResponse(self.draw("login.html", words=found.words), found.status)
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, found, httponly=True, samesite="strict", secure=self.is_secure)
        return response

    def _count_wrong(self, request: Request, refused: Refused) -> None:
        """Slow down who tries tokens; nobody else behind the same address waits for it."""
        if refused.was_token_sent:
            self._count(self.per_address, _address(request))

    def _count(self, limit: Limit, name: str) -> None:
        wait = limit.wait_seconds(name, time.monotonic())
        if wait > 0:
            words = f"Too many requests: wait {max(1, round(wait))} s."
            raise RefusedError(Refused(429, words), max(1.0, wait))


class _Hardened:
    """Adds headers to each answer. It passes every part on at once, as a stream needs."""

    def __init__(self, app: ASGIApp, framed_by: str) -> None:
        self._app = app
        policy = _HEADERS["content-security-policy"] + framed_by
        headers = {**_HEADERS, "content-security-policy": policy}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in self._headers if name not in known),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def harden(app: FastAPI, door: Door) -> None:
    """Add headers to each answer, and turn each refusal into words."""

    app.add_middleware(_Hardened, framed_by=door.framed_by)

    @app.exception_handler(SlipwayError)
    async def tell(request: Request, error: SlipwayError) -> Response:
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        if status == 503:  # who labels need not know where the database is
            log.error("%s", error)
        return told(request, status, _LATER if status == 503 else str(error))

    @app.exception_handler(RefusedError)
    async def refuse(request: Request, error: RefusedError) -> Response:
        is_page = request.method == "GET" and not wants_json(request)
        if error.refused.status == 401 and is_page:
            return HTMLResponse(door.draw("login.html", words=""), 401)
        response = told(request, error.refused.status, error.refused.words)
        if error.wait_seconds:
            response.headers["retry-after"] = f"{error.wait_seconds:.0f}"
        return response


def let_people_in(app: FastAPI, door: Door) -> None:
    """Add logging in and out."""

    @app.post("/login")
    async def log_in(request: Request) -> Response:
        return door.log_in(request, (await fields(request)).get("token", ""))

    @app.post("/logout")
    async def log_out(request: Request) -> Response:
        sent = await fields(request)
        visitor = door.visitor(request)
        door.check_mark(request, visitor, sent.get("mark", ""))
        response = RedirectResponse("/", 303)
        response.delete_cookie(COOKIE)
        return response


def told(request: Request, status: int, words: str) -> Response:
    """Return why something was not done; on a page that stays, as the line above the question."""
    if wants_json(request):
        return JSONResponse({"error": words}, status)
    if is_by_htmx(request):
        headers = {"hx-retarget": "#message", "hx-reswap": "textContent"}
        return Response(words, status, headers, media_type="text/plain")
    return Response(words, status, media_type="text/plain")


def address_of(pipeline: str, head: str, kind: str = "p") -> str:
    """Return where the questions of a head are (`p`), or where people disagree (`review`)."""
    return f"/{kind}/{quote(pipeline, safe='')}?head={quote(head, safe='')}"


def is_by_htmx(request: Request) -> bool:
    """Tell whether a part of the page is asked for, by the script on it."""
    return request.headers.get("hx-request") == "true"


def wants_json(request: Request) -> bool:
    """Tell whether a program asks."""
    return request.headers.get("accept", "").startswith("application/json")


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
