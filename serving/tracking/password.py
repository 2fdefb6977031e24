"""Passwords of MLflow: HTTP Basic authentication (RFC 7617) in front of it, its database's."""

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from contract.tokens import read_token

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

USER = "slipway"
PASSWORD_FILE = "SLIPWAY_TRACKING_PASSWORD_FILE"  # the variable that names the file
DATABASE_PASSWORD_FILE = "SLIPWAY_DATABASE_PASSWORD_FILE"  # the same for PostgreSQL's password
OPEN = frozenset({"/health", "/version"})  # say nothing but that it is up
_REFUSED = b"MLflow: user 'slipway' and the password that 'slipway up' names are needed.\n"


class PasswordDoor:
    """Lets in who has the password; a browser asks for it, MLflow's client has variables for it."""

    def __init__(self, application: Application, password: str) -> None:
        self._application = application
        self._expected = f"{USER}:{password}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, or pass the request on."""
        if scope["type"] == "lifespan" or scope.get("path") in OPEN or self._knows(scope):
            await self._application(scope, receive, send)
        elif scope["type"] == "http":
            await _refuse(send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _knows(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(_credentials(given[0]), self._expected)


def set_database_password(environment: MutableMapping[str, str]) -> None:
    """Let PostgreSQL's library find the password in a variable: no command line shows it.

    Raises:
        ConfigError: If the file that the environment names cannot be read, or is empty.
    """
    if path := environment.get(DATABASE_PASSWORD_FILE):
        environment["PGPASSWORD"] = read_token(Path(path), DATABASE_PASSWORD_FILE)


def _credentials(header: bytes) -> bytes:
    """Return `user:password` of an Authorization header; empty if it has none."""
    scheme, _, encoded = header.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        return b""


async def _refuse(send: Send) -> None:
    headers = [
        (b"www-authenticate", b'Basic realm="MLflow", charset="UTF-8"'),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(_REFUSED)).encode()),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSED})
