"""The frame of a server of one package: ports, signals, credentials, draining; not the model."""

import asyncio
import logging
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Protocol

from contract.addresses import VERSION_HEADER
from serving.server.core.model import read_package
from serving.server.credentials import tls_of, token_of
from serving.server.http.connections import Connections
from serving.server.http.messages import Request
from serving.server.http.port import Port, bind, until_nobody_comes
from serving.server.options import Options

log = logging.getLogger("slipway")

# For those who had connected when the port closed, and have yet to send their request.
_LATE_SECONDS = 2.0
_SWEEP_SECONDS = 1.0


class GrpcServer(Protocol):
    """The gRPC beside the port of REST."""

    @property
    def in_flight(self) -> int:
        """How many calls wait for their answer."""

    @property
    def last_call_at(self) -> float:
        """When the last call came, of `time.monotonic()`."""

    async def start(self) -> None:
        """Answer."""

    async def stop(self, grace_seconds: float) -> None:
        """Take no more calls, and wait for those in flight."""


class PackageServer(ABC):
    """One package behind one port, and one of gRPC if that is asked for."""

    def __init__(self, options: Options) -> None:
        """Read the package's manifest and take the port; the model is loaded by `run`.

        Raises:
            UserError: If the package, the token, the certificate or the port cannot be used.
        """
        self._options = options
        self._manifest = manifest = read_package(options.package)
        self._token = token_of(options.token_file)
        self._tls = tls_of(options.certificate, options.key)
        self._grpc: GrpcServer | None = None
        self._make()
        self._connections = Connections(
            self._handle,
            int(manifest.serve.max_body_mb * 2**20),
            f"{VERSION_HEADER}: {manifest.version}\r\n".encode(),
        )
        self._socket = bind(options.host, options.port)

    @abstractmethod
    def _make(self) -> None:
        """Make what answers, from the options and the manifest, before the port is taken."""

    @abstractmethod
    def _handle(self, request: Request) -> None:
        """Answer a request, now or when the model has; never raises."""

    @abstractmethod
    def _make_grpc(self) -> GrpcServer:
        """Take the ports of gRPC, on the running loop."""

    @abstractmethod
    async def _load(self) -> None:
        """Load the model; until this returns, callers are told that it is loading."""

    @abstractmethod
    def _begin_draining(self) -> None:
        """Tell those who ask that this server goes."""

    @abstractmethod
    async def _close(self) -> None:
        """End what the model needed; nothing is in flight."""

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain.

        /healthz answers 503 while the model is loading, 200 when it is warm, 503 while draining.

        Raises:
            UserError: If the model is not what its manifest says, or a port of gRPC cannot be used.
        """
        stop = stop_on_signals()
        port = Port(self._socket, self._connections, self._tls)
        await port.open()
        sweeper = asyncio.create_task(sweep(self._connections))
        if self._options.has_grpc:
            self._grpc = self._make_grpc()
            await self._grpc.start()
        log.info("listening at %s:%d, loading the model", *self._socket.getsockname()[:2])
        if await is_done_before(stop, self._load()):
            self._announce()
            await stop.wait()
        await self._drain(port)
        await self._close()
        sweeper.cancel()

    def _announce(self) -> None:
        manifest, (host, port, *_) = self._manifest, self._socket.getsockname()
        log.info(
            "serving %s version %d at %s://%s:%d/v1/models/%s",
            manifest.pipeline,
            manifest.version,
            "https" if self._tls else "http",
            host,
            port,
            manifest.pipeline,
        )

    async def _drain(self, port: Port) -> None:
        """Answer what is in flight and what still comes, then close.

        Every answer says `Connection: close`, so that callers leave with an answer in hand; the
        port stays open until it has been quiet, so that none who comes late is turned away. Where
        callers go on to the deadline, having nowhere else to go, each is answered or refused at
        the door: that can be tried elsewhere, a request that was sent and cut off cannot.
        """
        log.info("draining: %d requests in flight", self._seen()[0])
        self._connections.is_draining = True
        self._begin_draining()
        leave_at = time.monotonic() + self._options.leave_seconds
        deadline = leave_at + self._manifest.serve.drain_seconds
        await until_nobody_comes(self._seen, self._is_empty, leave_at, deadline)
        port.close()
        if self._grpc is not None:
            await self._grpc.stop(max(0.0, deadline - time.monotonic()))
        left = await port.finish(max(deadline, time.monotonic() + _LATE_SECONDS))
        log.info("drained: %d requests cut off", left)

    def _seen(self) -> tuple[int, float]:
        """Return how many requests are in flight, and when the last came, by any protocol."""
        rest, grpc = self._connections, self._grpc
        if grpc is None:
            return rest.in_flight, rest.last_request_at
        return rest.in_flight + grpc.in_flight, max(rest.last_request_at, grpc.last_call_at)

    def _is_empty(self) -> bool:
        """Tell whether all callers know that this server goes, and the last has left."""
        all_know = not self._options.leave_seconds
        return all_know and not self._connections.open and self._grpc is None


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def is_done_before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do work; return False if the process must stop before it is done."""
    doing, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not doing.done():
        doing.cancel()
        return False
    doing.result()
    return True


async def sweep(connections: Connections) -> None:
    """Look again and again for connections that have waited too long."""
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        connections.sweep()
