"""What the connections of a server share: limits, headers, request ids, and the sweep."""

import itertools
import os
import resource
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

from serving.server.http.messages import Request

if TYPE_CHECKING:
    from serving.server.http.connection import Connection

_MAX_CONNECTIONS = 8192  # Envoy opens at most 4096 to a version
_SPARE_DESCRIPTORS = 64  # for the model, the log and the listener
_MAX_RECEIVED_BODIES = 8  # of the largest size at the same time; further ones get 503


class Connections:
    """All open connections of a server, and what they share."""

    def __init__(
        self, handle: Callable[[Request], None], max_body_bytes: int, headers: bytes = b""
    ) -> None:
        """Hand complete requests to `handle`; `headers` (whole lines) go into every answer."""
        self.handle = handle
        self.max_body_bytes = max_body_bytes
        self.max_received_bytes = _MAX_RECEIVED_BODIES * max_body_bytes
        self.received_bytes = 0
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.max_connections = min(_MAX_CONNECTIONS, descriptors - _SPARE_DESCRIPTORS)
        self.is_draining = False
        self.open: set[Connection] = set()
        self.last_request_at = time.monotonic()
        self._headers = headers
        self._heads: dict[int, bytes] = {}
        self._request_ids = itertools.count(1)
        self._request_id_prefix = os.urandom(6).hex()

    @property
    def in_flight(self) -> int:
        """How many requests are being received or wait for their answer."""
        return sum(connection.is_busy for connection in self.open)

    def head(self, status: int) -> bytes:
        """Return the status line and the headers that all answers of this status share."""
        if (head := self._heads.get(status)) is None:
            phrase = HTTPStatus(status).phrase.encode()
            date = formatdate(usegmt=True).encode()
            head = b"HTTP/1.1 %d %b\r\ndate: %b\r\n%b" % (status, phrase, date, self._headers)
            self._heads[status] = head
        return head

    def new_request_id(self) -> bytes:
        """Return an id for a request that came without one."""
        return b"%b-%x" % (self._request_id_prefix.encode(), next(self._request_ids))

    def sweep(self) -> None:
        """Refresh the date and end connections that send too slowly; call it once a second."""
        self._heads.clear()
        now = time.monotonic()
        for connection in list(self.open):
            connection.check_time(now)
