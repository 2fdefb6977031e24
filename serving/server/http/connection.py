"""HTTP/1.1 on one socket: an asyncio Protocol around llhttp (httptools).

A general ASGI server costs 60 µs of CPU a request on the machine this was measured on, this 17: no
task, no queue and no scope is made for a request. It does what a data plane needs: keep-alive,
pipelining in order, chunked bodies, `Expect: 100-continue`, limits on size and time, back-pressure,
a close that does not lose the answer.
"""

import asyncio
import time
from collections import deque
from typing import Any

import httptools

from contract.records.prediction import ARM_HEADER
from serving.server.http.connections import Connections
from serving.server.http.messages import Request, RequestError

_MAX_HEAD_BYTES = 64 * 1024
_MAX_TRAILER_BYTES = 16 * 1024  # also of chunk extensions that come alone
_MAX_PIPELINED = 16
_RECEIVE_SECONDS = 60.0  # from the first byte of a request to its last
# Longer than Envoy keeps its idle upstream connections (one hour): the side that sends requests
# should be the one to close, or a request crosses the close and is lost.
_IDLE_SECONDS = 4000.0
_LINGER_SECONDS = 2.0
_SENT_AWAY = b"retry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_MAX_REQUEST_ID_BYTES = 128
_HEALTH = b"/healthz"  # who asks that is no caller: a server that drains does not wait for them
_READ_HEADERS = frozenset(
    (
        b"access-control-request-method",
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"expect",
        b"inference-header-content-length",
        b"origin",
        b"transfer-encoding",
        b"x-request-id",
        b"x-server-timing",
        ARM_HEADER.encode(),
    )
)


class Connection(asyncio.Protocol):
    """One caller. Requests are handled one after the other, answers leave in order."""

    def __init__(self, connections: Connections) -> None:
        self._shared = connections
        self._max_body_bytes = connections.max_body_bytes
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._current: Request | None = None
        self._waiting: deque[Request] = deque()
        self._receiving: Request | None = None
        self._since = time.monotonic()
        self._is_closing = False
        self._is_in_head = False
        self._is_read_on = False
        self._start_message()

    @property
    def is_busy(self) -> bool:
        return self._current is not None or self._receiving is not None or bool(self._waiting)

    # --- from the transport ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        if len(self._shared.open) >= self._shared.max_connections:
            self._is_closing = True
            self._transport.write(self._shared.head(503) + _SENT_AWAY)
            self._transport.close()
            return
        self._shared.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's name)
        self._shared.open.discard(self)
        self._release()
        self._current = self._receiving = None
        self._waiting.clear()
        self._is_closing = True

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        was_in_head, size_before = self._is_in_head, self._size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            (offset,) = upgrade.args
            self._read_on(data[offset:])
        except httptools.HttpParserError as error:
            if not self._is_closing:
                self._refuse(RequestError(400, f"not an HTTP/1.1 request: {error}"))
        if was_in_head and self._is_in_head:
            self._check_head(len(data))
        elif not was_in_head and self._receiving is not None and self._size == size_before:
            self._check_trailer(len(data))

    def eof_received(self) -> bool:
        # A caller may half-close after its last request and still wants the answers.
        self._is_closing = True
        return self._current is not None or bool(self._waiting)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if len(self._waiting) < _MAX_PIPELINED:
            self._transport.resume_reading()

    # --- from the parser ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_closing or self._is_read_on:
            return
        self._start_message()
        self._is_in_head = True
        self._receiving = Request(self, b"", b"", self._headers)
        self._since = time.monotonic()

    def on_url(self, url: bytes) -> None:
        if not self._is_read_on:
            self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_head:
            return  # a trailer: it must not replace what was said in the head (RFC 9110 6.5.1)
        if (key := name.lower()) in _READ_HEADERS:
            if key == b"content-encoding" and key in self._headers:
                value = b"%b, %b" % (self._headers[key], value)  # one list on several lines
            self._headers[key] = value

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        if (request := self._receiving) is None or self._is_read_on:
            return
        request.method = self._parser.get_method()
        request.path = self._url
        request.is_keep_alive = (
            self._parser.should_keep_alive()
            and self._parser.get_http_version() != "1.0"
            and not self._parser.should_upgrade()
        )
        if (length := int(self._headers.get(b"content-length", b"0"))) > self._max_body_bytes:
            self._refuse(self._too_large(length))
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and not self._current:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._receiving is None:
            return
        self._size += len(body)
        self._shared.received_bytes += len(body)
        if self._size > self._max_body_bytes:
            self._refuse(self._too_large(self._size))
        elif self._shared.received_bytes > self._shared.max_received_bytes:
            self._refuse(RequestError(503, "too many large requests at once", {"retry-after": "1"}))
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if (request := self._receiving) is None or self._parser.should_upgrade():
            return
        self._is_closing = self._is_closing or self._is_read_on
        self._receiving = None
        self._release()
        body = self._body
        request.body = body[0] if len(body) == 1 else b"".join(body)
        self._enqueue(request)

    # --- inside ---------------------------------------------------------------------------------

    def _read_on(self, data: bytes) -> None:
        """Read the body of a request that offers another protocol, and nothing after it.

        None is spoken here, and an offer may be ignored (RFC 9110 7.8); but the parser takes what
        follows the head for the other protocol. So another one is told the framing.
        """
        names = (b"content-length", b"transfer-encoding")
        framing = [b"%b: %b\r\n" % (n, self._headers[n]) for n in names if n in self._headers]
        self._is_read_on = True
        self._parser = httptools.HttpRequestParser(self)
        head = b"POST / HTTP/1.1\r\nconnection: close\r\n%b\r\n" % b"".join(framing)
        if self._receiving is not None:
            self.data_received(head)
        if data:
            self.data_received(data)

    def answer(self, request: Request, status: int, body: bytes, headers: bytes) -> None:
        """Send the answer of the current request and continue with the next."""
        if self._current is not request:
            return
        self._current = None
        self._since = time.monotonic()
        is_kept = request.is_keep_alive and (bool(self._waiting) or not self._shared.is_draining)
        if not is_kept:
            headers += b"connection: close\r\n"
        self._transport.write(
            b"%bx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n%b"
            % (
                self._shared.head(status),
                request.request_id,
                headers,
                len(body),
                b"" if request.method == b"HEAD" else body,
            )
        )
        if not is_kept or (self._is_closing and not self._waiting):
            self._close(is_lingering=request.error is not None)
        elif self._waiting:
            asyncio.get_running_loop().call_soon(self._start_next)

    def check_time(self, now: float) -> None:
        """End the connection if the caller has taken too long over a request, or sent none."""
        quiet = now - self._since
        if self._receiving is not None and quiet > _RECEIVE_SECONDS:
            self._refuse(RequestError(408, f"request not complete after {_RECEIVE_SECONDS:g} s"))
        elif not self.is_busy and quiet > _IDLE_SECONDS:
            self._transport.close()

    def close_if_idle(self) -> None:
        """Close unless a request is in flight."""
        if not self.is_busy:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _release(self) -> None:
        """Count the body no longer: it is complete, refused, or its caller has gone."""
        self._shared.received_bytes -= self._size
        self._size: int = 0

    def _start_message(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._head_size = 0
        self._trailer_size = 0

    def _check_head(self, size: int) -> None:
        """Count the bytes of a head that comes in several pieces; one piece is bounded anyway."""
        self._head_size += size
        if self._head_size > _MAX_HEAD_BYTES:
            self._refuse(
                RequestError(431, f"headers above {_MAX_HEAD_BYTES} bytes; send fewer or shorter")
            )

    def _check_trailer(self, size: int) -> None:
        """Count the bytes after the head that are not part of the body."""
        self._trailer_size += size
        if self._trailer_size > _MAX_TRAILER_BYTES:
            words = f"trailers above {_MAX_TRAILER_BYTES} bytes; send fewer or shorter"
            self._refuse(RequestError(431, words))

    def _too_large(self, size: int) -> RequestError:
        limit = self._max_body_bytes
        return RequestError(
            413,
            f"body: found {size} bytes, at most {limit} are accepted (serve.max_body_mb); "
            "send fewer rows in a request",
        )

    def _refuse(self, error: RequestError) -> None:
        """Answer in its turn with an error, and read nothing more: the framing is lost."""
        request = self._receiving or Request(self, b"", b"", {})
        request.error, request.is_keep_alive = error, False
        self._receiving, self._is_in_head, self._is_closing = None, False, True
        self._release()
        self._body = []
        self._enqueue(request)

    def _enqueue(self, request: Request) -> None:
        given = request.headers.get(b"x-request-id", b"")
        is_usable = 0 < len(given) <= _MAX_REQUEST_ID_BYTES
        request.request_id = given if is_usable else self._shared.new_request_id()
        request.received_at = time.monotonic()
        if request.path != _HEALTH:
            self._shared.last_request_at = request.received_at
        if self._current is None and not self._waiting:
            self._current = request
            self._shared.handle(request)
            return
        self._waiting.append(request)
        if len(self._waiting) >= _MAX_PIPELINED:
            self._transport.pause_reading()

    def _start_next(self) -> None:
        if self._current is not None or not self._waiting:
            return
        self._current = self._waiting.popleft()
        if len(self._waiting) == _MAX_PIPELINED - 1:
            self._transport.resume_reading()
        self._shared.handle(self._current)

    def _close(self, is_lingering: bool) -> None:
        """Close when the answer is out.

        Where the caller is still sending, a plain close makes the kernel reset the connection and
        the caller may never read the answer; so its bytes are read and dropped for a while.
        """
        self._is_closing = True
        if is_lingering and self._transport.can_write_eof():
            self._transport.write_eof()
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._transport.close)
        else:
            self._transport.close()
