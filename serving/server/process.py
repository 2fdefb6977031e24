"""The life of a server process: bind, load, serve, drain."""

import asyncio
import gc
import logging
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from contract.addresses import VERSION_HEADER
from contract.errors import StorageError
from contract.records.package import PackageManifest
from serving.server.core.batching import Batcher
from serving.server.core.control_rows import control_for
from serving.server.core.metrics import ServerMetrics
from serving.server.core.model import (
    array_readers,
    fillers,
    load_model,
    read_package,
    readers,
)
from serving.server.core.prediction_log import PredictionLog
from serving.server.core.service import Loaded, PredictService
from serving.server.core.unanswerable import Control
from serving.server.credentials import tls_of, token_of
from serving.server.engines.engine import ServedModel
from serving.server.engines.engine_import import import_engine
from serving.server.http.connections import Connections
from serving.server.http.port import Port, bind, until_nobody_comes
from serving.server.http.targets import DEFAULT_LABELS
from serving.server.rest.rest import RestApi

if TYPE_CHECKING:
    from serving.server.grpc.front import GrpcFront

log = logging.getLogger("slipway")

# For those who had connected when the port closed, and have yet to send their request.
_LATE_SECONDS = 2.0
_SWEEP_SECONDS = 1.0


@dataclass(frozen=True)
class Options:
    """The command line."""

    package: Path
    port: int
    host: str = "127.0.0.1"
    predictions: Path | None = None
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    labels: tuple[str, ...] = DEFAULT_LABELS
    grpc_port: int | None = None
    grpc_socket: Path | None = None
    leave_seconds: float = 0.0


class ModelServer:
    """One package behind one port, and one of gRPC if that is asked for."""

    def __init__(self, options: Options) -> None:
        """Read the package's manifest and take the port; the model is loaded by `run`.

        Raises:
            UserError: If the package, the token, the certificate or the port cannot be used.
        """
        self._options = options
        self._manifest = manifest = read_package(options.package)
        self._tls = tls_of(options.certificate, options.key)
        self._metrics = ServerMetrics(manifest.pipeline, manifest.version)
        self._service = PredictService(manifest, self._metrics, options.labels)
        self._token = token_of(options.token_file)
        self._grpc: GrpcFront | None = None
        self._connections = Connections(
            RestApi(self._service, self._token).handle,
            int(manifest.serve.max_body_mb * 2**20),
            f"{VERSION_HEADER}: {manifest.version}\r\n".encode(),
        )
        self._socket = bind(options.host, options.port)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain.

        /healthz answers 503 while the model is loading, 200 when it is warm, 503 while draining.

        Raises:
            UserError: If the model is not what its manifest says.
        """
        # Numbers too large for float32 are looked for and refused; the log need not say it too.
        warnings.filterwarnings("ignore", "overflow encountered", RuntimeWarning)
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        port = Port(self._socket, self._connections, self._tls)
        await port.open()
        sweeper = asyncio.create_task(self._sweep())
        await self._start_grpc()
        log.info("listening at %s:%d, loading the model", *self._socket.getsockname()[:2])
        if await self._load(stop):
            self._announce()
            await stop.wait()
        await self._drain(port)
        sweeper.cancel()

    async def _start_grpc(self) -> None:
        options = self._options
        if options.grpc_port is None and options.grpc_socket is None:
            return
        # Here, because its import takes time and memory that servers of REST alone need not spend.
        from serving.server.grpc.front import GrpcFront, GrpcPorts

        ports = GrpcPorts(
            options.host,
            options.grpc_port,
            options.grpc_socket,
            self._token,
            options.certificate,
            options.key,
        )
        self._grpc = GrpcFront(self._service, ports)
        await self._grpc.start()

    async def _load(self, stop: asyncio.Event) -> bool:
        """Load the model in a thread; return whether it is there before the process must stop."""
        started = time.monotonic()
        # A separate pool: the loop's would make the process wait for a load that it gives up.
        loading = asyncio.get_running_loop().run_in_executor(
            ThreadPoolExecutor(1, "load"), self._load_model
        )
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            return False
        stopping.cancel()
        model, control = loading.result()
        batcher = Batcher(
            model.call,
            self._manifest.serve,
            fillers(self._manifest),
            self._metrics,
            control,
        )
        self._metrics.watch_queue(lambda: batcher.waiting_rows)
        self._metrics.observe_load(time.monotonic() - started)
        self._service.loaded = Loaded(
            batcher,
            readers(self._manifest, model),
            array_readers(self._manifest, model),
            model.signatures,
            _open_log(self._options.predictions, self._manifest, self._metrics),
        )
        # What belongs to the model stays, too: keep the collector from examining it.
        gc.collect()
        gc.freeze()
        return True

    def _load_model(self) -> tuple[ServedModel, Control]:
        folder, manifest = self._options.package, self._manifest
        import_engine(is_tensorflow=not manifest.engine.path)
        model = load_model(folder, manifest)
        return model, control_for(folder, manifest, model)

    def _announce(self) -> None:
        address = self._socket.getsockname()
        scheme = "https" if self._tls else "http"
        log.info(
            "serving %s version %d at %s://%s:%d/v1/models/%s",
            self._manifest.pipeline,
            self._manifest.version,
            scheme,
            address[0],
            address[1],
            self._manifest.pipeline,
        )
        if ratio := self._manifest.serve.fault_ratio:
            log.warning(
                "REHEARSAL: this server FAILS %g %% of its predictions ON PURPOSE, as its package "
                "asks (serve.fault_ratio %g)",
                100 * ratio,
                ratio,
            )

    async def _drain(self, port: Port) -> None:
        """Answer what is in flight and what still comes, then close.

        Every answer says `Connection: close`, so that callers leave with an answer in hand; the
        port stays open until it has been quiet, so that none who comes late is turned away. Where
        callers go on to the deadline, having nowhere else to go, each is answered or refused at
        the door: that can be tried elsewhere, a request that was sent and cut off cannot.
        """
        log.info("draining: %d requests in flight", self._in_flight())
        self._service.is_draining = self._connections.is_draining = True
        leave_at = time.monotonic() + self._options.leave_seconds
        deadline = leave_at + self._manifest.serve.drain_seconds
        await until_nobody_comes(self._seen, self._is_empty, leave_at, deadline)
        port.close()
        if self._grpc is not None:
            await self._grpc.stop(max(0.0, deadline - time.monotonic()))
        left = await port.finish(max(deadline, time.monotonic() + _LATE_SECONDS))
        loaded = self._service.loaded
        if loaded is not None:
            loaded.batcher.close()
            if loaded.prediction_log is not None:
                loaded.prediction_log.close()
        log.info("drained: %d requests cut off", left)

    def _in_flight(self) -> int:
        of_grpc = 0 if self._grpc is None else self._grpc.in_flight
        return self._connections.in_flight + of_grpc

    def _seen(self) -> tuple[int, float]:
        """Return how many requests are in flight, and when the last came, by any protocol."""
        of_grpc = 0.0 if self._grpc is None else self._grpc.last_call_at
        return self._in_flight(), max(self._connections.last_request_at, of_grpc)

    def _is_empty(self) -> bool:
        """Tell whether all callers know that this server goes, and the last has left."""
        all_know = not self._options.leave_seconds
        return all_know and not self._connections.open and self._grpc is None

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._connections.sweep()


def _open_log(
    folder: Path | None, manifest: PackageManifest, metrics: ServerMetrics
) -> PredictionLog | None:
    if folder is None or manifest.serve.prediction_log_ratio == 0.0:
        return None
    try:
        return PredictionLog(folder, manifest, metrics.observe_dropped)
    except OSError as error:
        raise StorageError(f"--predictions {folder}: cannot write there: {error}") from error
