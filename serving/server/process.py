"""The life of a server process: bind, load, serve, drain."""

import asyncio
import gc
import logging
import signal
import socket
import ssl
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from contract.errors import ConfigError, StorageError
from contract.records.package import PackageManifest
from contract.tokens import read_token
from serving.server.core.batching import Batcher
from serving.server.core.control_rows import control_for
from serving.server.core.metrics import ServerMetrics
from serving.server.core.model import fillers, load_model, read_package, readers
from serving.server.core.prediction_log import PredictionLog
from serving.server.core.unanswerable import Control
from serving.server.engines.engine import ServedModel
from serving.server.engines.engine_import import import_engine
from serving.server.http.connection import Connection, Connections
from serving.server.http.targets import DEFAULT_LABELS
from serving.server.rest.rest import Loaded, RestApi

log = logging.getLogger("slipway")

_BACKLOG = 1024
# While draining, a quiet time this long means that the traffic has found its way elsewhere.
_QUIET_SECONDS = 0.5
_POLL_SECONDS = 0.05
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


class ModelServer:
    """One package behind one port."""

    def __init__(self, options: Options) -> None:
        """Read the package's manifest and take the port; the model is loaded by `run`.

        Raises:
            UserError: If the package, the token, the certificate or the port cannot be used.
        """
        self._options = options
        self._manifest = manifest = read_package(options.package)
        self._tls = _tls(options)
        self._metrics = ServerMetrics(manifest.pipeline, manifest.version)
        self._api = RestApi(manifest, self._metrics, _token(options.token_file), options.labels)
        self._connections = Connections(
            self._api.handle,
            int(manifest.serve.max_body_mb * 2**20),
            b"x-slipway-version: %d\r\n" % manifest.version,
        )
        self._socket = _bind(options.host, options.port)

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
        listener = await loop.create_server(
            lambda: Connection(self._connections),
            sock=self._socket,
            ssl=self._tls,
            backlog=_BACKLOG,
        )
        sweeper = asyncio.create_task(self._sweep())
        log.info("listening at %s:%d, loading the model", *self._socket.getsockname()[:2])
        if await self._load(stop):
            self._announce()
            await stop.wait()
        await self._drain(listener)
        sweeper.cancel()

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
        self._api.loaded = Loaded(
            batcher,
            readers(self._manifest, model),
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

    async def _drain(self, listener: asyncio.Server) -> None:
        """Answer what is in flight and what still comes, then close.

        Every answer says `Connection: close`, so that callers leave with an answer in hand; the
        port stays open until it has been quiet, so that none who comes late is turned away.
        """
        log.info("draining: %d requests in flight", self._connections.in_flight)
        self._api.is_draining = self._connections.is_draining = True
        deadline = time.monotonic() + self._manifest.serve.drain_seconds
        while time.monotonic() < deadline:
            quiet = time.monotonic() - self._connections.last_request_at
            busy = self._connections.in_flight
            if not busy and (quiet >= _QUIET_SECONDS or not self._connections.open):
                break
            await asyncio.sleep(_POLL_SECONDS)
        listener.close()
        left = await self._finish_connections(deadline)
        loaded = self._api.loaded
        if loaded is not None:
            loaded.batcher.close()
            if loaded.prediction_log is not None:
                loaded.prediction_log.close()
        log.info("drained: %d requests cut off", left)

    async def _finish_connections(self, deadline: float) -> int:
        """Close all connections; return how many had a request that was not answered in time."""
        while True:
            for connection in list(self._connections.open):
                connection.close_if_idle()
            if not self._connections.in_flight or time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL_SECONDS)
        left = self._connections.in_flight
        for connection in list(self._connections.open):
            connection.abort()
        await asyncio.sleep(0)
        return left

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._connections.sweep()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            [f"{host}:{port}: cannot listen there: {error}; choose another --port or --host"]
        ) from error


def _token(path: Path | None) -> str | None:
    return None if path is None else read_token(path, "--token-file")


def _tls(options: Options) -> ssl.SSLContext | None:
    if options.certificate is None and options.key is None:
        return None
    if options.certificate is None or options.key is None:
        raise ConfigError(["--certificate and --key: expected both or none, found one"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"--certificate {options.certificate}: unusable: {error}"]) from error
    return context


def _open_log(
    folder: Path | None, manifest: PackageManifest, metrics: ServerMetrics
) -> PredictionLog | None:
    if folder is None or manifest.serve.prediction_log_ratio == 0.0:
        return None
    try:
        return PredictionLog(folder, manifest, metrics.observe_dropped)
    except OSError as error:
        raise StorageError(f"--predictions {folder}: cannot write there: {error}") from error
