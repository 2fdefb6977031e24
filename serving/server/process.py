"""A package of a pipeline's model behind its port."""

import asyncio
import gc
import logging
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

from serving.server.core.batching import Batcher
from serving.server.core.control_rows import control_for
from serving.server.core.metrics import ServerMetrics
from serving.server.core.model import (
    array_readers,
    fillers,
    load_model,
    readers,
)
from serving.server.core.prediction_log import open_log
from serving.server.core.service import Loaded, PredictService
from serving.server.core.unanswerable import Control
from serving.server.engines.engine import ServedModel
from serving.server.engines.engine_import import import_engine
from serving.server.frame import GrpcServer, PackageServer
from serving.server.http.messages import Request
from serving.server.rest.rest import RestApi

log = logging.getLogger("slipway")


class ModelServer(PackageServer):
    """The server of a pipeline's model."""

    def _make(self) -> None:
        manifest = self._manifest
        self._metrics = ServerMetrics(manifest.pipeline, manifest.version)
        self._service = PredictService(manifest, self._metrics, self._options.labels)
        self._rest = RestApi(self._service, self._token)

    def _handle(self, request: Request) -> None:
        self._rest.handle(request)

    def _make_grpc(self) -> GrpcServer:
        # Here, because its import takes time and memory that servers of REST alone need not spend.
        from serving.server.grpc.front import GrpcFront, GrpcPorts

        options = self._options
        ports = GrpcPorts(
            options.host,
            options.grpc_port,
            options.grpc_socket,
            self._token,
            options.certificate,
            options.key,
        )
        return GrpcFront(self._service, ports)

    async def _load(self) -> None:
        started = time.monotonic()
        # Numbers too large for float32 are looked for and refused; the log need not say it too.
        warnings.filterwarnings("ignore", "overflow encountered", RuntimeWarning)
        # A separate pool: the loop's would make the process wait for a load that it gives up.
        model, control = await asyncio.get_running_loop().run_in_executor(
            ThreadPoolExecutor(1, "load"), self._load_model
        )
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
            open_log(self._options.predictions, self._manifest, self._metrics.observe_dropped),
        )
        # What belongs to the model stays, too: keep the collector from examining it.
        gc.collect()
        gc.freeze()

    def _load_model(self) -> tuple[ServedModel, Control]:
        folder, manifest = self._options.package, self._manifest
        import_engine(is_tensorflow=not manifest.engine.path)
        model = load_model(folder, manifest)
        return model, control_for(folder, manifest, model)

    def _announce(self) -> None:
        super()._announce()
        if ratio := self._manifest.serve.fault_ratio:
            log.warning(
                "REHEARSAL: this server FAILS %g %% of its predictions ON PURPOSE, as its package "
                "asks (serve.fault_ratio %g)",
                100 * ratio,
                ratio,
            )

    def _begin_draining(self) -> None:
        self._service.is_draining = True

    async def _close(self) -> None:
        if (loaded := self._service.loaded) is None:
            return
        loaded.batcher.close()
        if loaded.prediction_log is not None:
            loaded.prediction_log.close()
