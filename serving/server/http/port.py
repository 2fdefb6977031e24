"""The port of a server: opened once, and closed so that nobody who has connected is cut off."""

import asyncio
import contextlib
import socket
import ssl
import sys
import time
from collections.abc import Callable

from contract.errors import ConfigError
from serving.server.http.connection import Connection
from serving.server.http.connections import Connections

_BACKLOG = 1024
_POLL_SECONDS = 0.05
# Not seconds: on a busy machine the clock goes on while callers wait to be read.
_QUIET_POLLS = 10


def bind(host: str, port: int, options: str = "--port or --host") -> socket.socket:
    """Take a port (0: any that is free) that these options of the command line name.

    Raises:
        ConfigError: If that cannot be.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        message = f"{host}:{port}: cannot listen there: {error}; choose another {options}"
        raise ConfigError([message]) from error


async def until_nobody_comes(
    seen: Callable[[], tuple[int, float]],
    is_empty: Callable[[], bool],
    leave_at: float,
    deadline: float,
) -> None:
    """Return when all is answered and nobody has come for some polls, or at the deadline.

    Args:
        seen: Returns how many requests are in flight, and when the last one came.
        is_empty: Tells that nobody is left who could come; then no poll is needed.
        leave_at: Not before this moment of `time.monotonic`: until then callers cannot know.
        deadline: The last moment.
    """
    (in_flight, last), polls = seen(), 0
    while (now := time.monotonic()) < deadline:
        if now >= leave_at and not in_flight and (polls >= _QUIET_POLLS or is_empty()):
            return
        await asyncio.sleep(_POLL_SECONDS)
        before = last
        in_flight, last = seen()
        polls = polls + 1 if last == before else 0


class Port:
    """A bound socket whose callers become `Connections`."""

    def __init__(
        self, bound: socket.socket, connections: Connections, tls: ssl.SSLContext | None = None
    ) -> None:
        self._socket, self._connections, self._tls = bound, connections, tls
        self._server: asyncio.Server | None = None
        self._entering: set[asyncio.Task[object]] = set()

    async def open(self) -> None:
        """Let callers in."""
        self._server = await asyncio.get_running_loop().create_server(
            self._connection, sock=self._socket, ssl=self._tls, backlog=_BACKLOG
        )

    def close(self) -> None:
        """Turn new callers away, but let in who has connected: their request may be on its way.

        A caller who is turned away can try elsewhere; closing the socket alone would reset those
        in its queue, who may have sent their request.
        """
        waiting: list[socket.socket] = []
        self._socket.listen(0)  # at most one can come between the last look and the end
        with contextlib.suppress(OSError):  # no descriptor is left for another
            while self._waiting():
                waiting.append(self._socket.accept()[0])
        self._socket.shutdown(socket.SHUT_RDWR)
        if self._server is not None:
            self._server.close()
        loop = asyncio.get_running_loop()
        for caller in waiting:
            entry = loop.connect_accepted_socket(self._connection, caller, ssl=self._tls)
            task: asyncio.Task[object] = loop.create_task(entry)
            self._entering.add(task)
            task.add_done_callback(self._entered)

    async def finish(self, deadline: float) -> int:
        """Answer who is there after `close`, then end all connections; return how many were cut.

        An answer ends its connection where `Connections.is_draining`. One without a request is
        ended after some polls in which none came.
        """
        connections, polls = self._connections, 0
        last = connections.last_request_at
        while (connections.open or self._entering) and time.monotonic() < deadline:
            polls = polls + 1 if connections.last_request_at == last else 0
            last = connections.last_request_at
            if polls >= _QUIET_POLLS:
                for connection in list(connections.open):
                    connection.close_if_idle()
            await asyncio.sleep(_POLL_SECONDS)
        left = connections.in_flight
        for connection in list(connections.open):
            connection.abort()
        await asyncio.sleep(0)
        return left

    def _waiting(self) -> int:
        """Return how many have connected and not been accepted (`tcpi_unacked` of Linux)."""
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
        return int.from_bytes(info[24:28], sys.byteorder)

    def _connection(self) -> Connection:
        return Connection(self._connections)

    def _entered(self, task: asyncio.Task[object]) -> None:
        self._entering.discard(task)
        if not task.cancelled():
            task.exception()  # a caller who has gone, or speaks no TLS
