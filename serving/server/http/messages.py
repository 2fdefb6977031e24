"""What passes between a connection and the API: a request, its one answer, a refusal."""

from collections.abc import Mapping
from typing import Protocol

JSON = b"application/json"


class RequestError(Exception):
    """The request cannot be served; `status` and the message are the caller's answer."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class Answering(Protocol):
    """Where an answer goes."""

    def answer(self, request: "Request", status: int, body: bytes, headers: bytes) -> None:
        """Send it in its turn; nothing happens if the caller has gone."""


class Request:
    """One HTTP request, complete. `error` is set where the connection itself must refuse it."""

    __slots__ = (
        "body",
        "error",
        "headers",
        "is_keep_alive",
        "method",
        "origin",
        "path",
        "received_at",
        "request_id",
    )

    def __init__(
        self, origin: Answering, method: bytes, path: bytes, headers: dict[bytes, bytes]
    ) -> None:
        self.origin = origin
        self.method = method
        self.path = path
        self.headers = headers
        self.body = b""
        self.error: RequestError | None = None
        self.is_keep_alive = True
        self.received_at = 0.0
        self.request_id = b""

    def reply(self, status: int, body: bytes, headers: bytes = b"") -> None:
        """Answer, once. `headers` are whole lines, each ended by CR LF."""
        self.origin.answer(self, status, body, headers)
