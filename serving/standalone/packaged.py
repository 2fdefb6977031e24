"""`python -m serving.standalone.packaged --package DIR --port P`: serve one imported package.

It takes the options of `python -m serving.server`, and is to the serving agent and to Envoy what
that is: it listens at once, answers /healthz, says which version answers, and drains on SIGTERM. To
callers it is TensorFlow Serving: any signature, by REST and gRPC. It keeps no prediction log.
"""

import asyncio
import hmac
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Never

import grpc
import numpy as np
import orjson
import uvloop
from grpc import StatusCode

from contract.addresses import VERSION_HEADER
from contract.errors import EXIT_DONE, EXIT_UNEXPECTED, DataError, SlipwayError
from contract.records.package import PackageManifest
from contract.storage import digest_directory
from serving.server.__main__ import parse
from serving.server.core.model import read_package
from serving.server.credentials import tls_of, token_of
from serving.server.grpc.statuses import CallError
from serving.server.http.connections import Connections
from serving.server.http.messages import Request, RequestError
from serving.server.http.port import Port, bind, until_nobody_comes
from serving.server.http.statuses import as_http
from serving.server.http.targets import path_of
from serving.server.process import Options
from serving.server.requests.errors import LoadingError
from serving.server.rest.bodies import JSON_HEADERS
from serving.standalone.configuration import ModelConfig
from serving.standalone.flags import Flags
from serving.standalone.inference import Inference
from serving.standalone.monitoring import Monitoring
from serving.standalone.opening import OpenedModel
from serving.standalone.process import Readiness, opened_warm
from serving.standalone.rest import RestFront, RestOptions
from serving.standalone.rpc import RpcFront, RpcOptions
from serving.standalone.running import DirectRunner, Runner
from serving.standalone.servables import Loading, Servables

log = logging.getLogger("slipway")

_PROGRAM = "python -m serving.standalone.packaged"
_METRICS_PATH = "/metrics"
_LATE_SECONDS = 2.0  # for those who had connected when the port closed
_SWEEP_SECONDS = 1.0
_WARM_UP_ROWS = 64


class PackagedServer:
    """One imported package behind a port of REST, and one of gRPC if that is asked for."""

    def __init__(self, options: Options) -> None:
        """Read the package's manifest and take the port; the model is loaded by `run`.

        Raises:
            UserError: If the package, the token, the certificate or the port cannot be used.
        """
        self._options = options
        self._manifest = manifest = read_package(options.package)
        if not manifest.is_imported:
            raise DataError(
                f"{options.package}: found the package of a pipeline's model; serve it with "
                "'python -m serving.server'"
            )
        self._token = token_of(options.token_file)
        self._tls = tls_of(options.certificate, options.key)
        self._readiness = Readiness()
        self._threads = ThreadPoolExecutor(4 * len(os.sched_getaffinity(0)), "model")
        self._servables = Servables(
            partial(_opened, manifest),
            self._runner_of,
            Loading(retries=0, allows_unknown_labels=True),
            lambda _: {manifest.version: options.package},
        )
        self._inference = Inference(self._servables)
        self._monitoring = Monitoring(self._servables)
        self._rest = RestFront(
            self._inference, self._monitoring, RestOptions(metrics_path=_METRICS_PATH)
        )
        self._connections = Connections(
            self._handle,
            int(manifest.serve.max_body_mb * 2**20),
            f"{VERSION_HEADER}: {manifest.version}\r\n".encode(),
        )
        self._socket = bind(options.host, options.port)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain.

        /healthz answers 503 while the model is loading, 200 when it is warm, 503 while draining.

        Raises:
            DataError: If the model does not load.
            ConfigError: If a port of gRPC cannot be used.
        """
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        port = Port(self._socket, self._connections, self._tls)
        await port.open()
        sweeper = asyncio.create_task(self._sweep())
        log.info("listening at %s:%d, loading the model", *self._socket.getsockname()[:2])
        loading, stopping = asyncio.create_task(self._load()), asyncio.create_task(stop.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        rpc = None
        if loading.done():
            loading.result()
            rpc = await self._start_grpc()
            self._readiness.is_ready = True
            log.info("serving %s version %d", self._manifest.pipeline, self._manifest.version)
            await stopping
        await self._drain(port, rpc)
        sweeper.cancel()

    async def _load(self) -> None:
        manifest = self._manifest
        labels = dict.fromkeys(self._options.labels, manifest.version)
        model = ModelConfig(manifest.pipeline, self._options.package.parent, labels=labels)
        try:
            await self._servables.reload([model])
        except CallError as error:
            reasons = [str(one.error) for one in self._servables.versions() if one.error]
            raise DataError(reasons[0] if reasons else str(error)) from error
        await self._warm_up()

    async def _warm_up(self) -> None:
        """Ask for the package's rows as a caller would, so that none pays for what comes first."""
        manifest = self._manifest
        signature = manifest.signatures.get(manifest.examples_signature)
        if not manifest.examples or signature is None:
            return
        path = f"/v1/models/{manifest.pipeline}:{signature.method}".encode()
        key = "instances" if signature.method == "predict" else "examples"
        with (self._options.package / manifest.examples).open("rb") as lines:
            for line in islice(lines, _WARM_UP_ROWS):
                body = {"signature_name": manifest.examples_signature, key: [orjson.loads(line)]}
                request = Request(answer := _Answer(), b"POST", path, {})
                request.body, request.received_at = orjson.dumps(body), time.monotonic()
                self._rest.handle(request)
                if (status := await answer.status) != HTTPStatus.OK:
                    log.warning("warm-up: a row of the package is answered with %d", status)

    def _runner_of(self, model: OpenedModel) -> Runner:
        return DirectRunner(model, self._threads)

    async def _start_grpc(self) -> RpcFront | None:
        options = self._options
        if options.grpc_port is None and options.grpc_socket is None:
            return None
        rpc = RpcFront(self._inference, _not_reloaded, self._monitoring, self._rpc_options())
        await rpc.start()
        log.info("gRPC at %s:%d", options.host, rpc.port)
        return rpc

    def _rpc_options(self) -> RpcOptions:
        options, credentials = self._options, None
        if options.certificate is not None and options.key is not None:
            pair = (options.key.read_bytes(), options.certificate.read_bytes())
            credentials = grpc.ssl_server_credentials([pair])
        return RpcOptions(
            options.host,
            options.grpc_port or 0,
            str(options.grpc_socket or ""),
            credentials=credentials,
            watched=self._readiness,
            token=self._token,
            most_bytes=int(self._manifest.serve.max_body_mb * 2**20),
        )

    # --- requests -------------------------------------------------------------------------------

    def _handle(self, request: Request) -> None:
        """Answer a request, now or when the model has; never raises."""
        path = path_of(request.path)
        if path == b"/healthz" and request.error is None:
            return self._healthz(request)
        if request.error is None and (refusal := self._refusal(request)) is not None:
            headers = "".join(f"{key}: {value}\r\n" for key, value in refusal.headers.items())
            body = orjson.dumps({"error": str(refusal)})
            return request.reply(refusal.status, body, JSON_HEADERS + headers.encode())
        return self._rest.handle(request)

    def _healthz(self, request: Request) -> None:
        words = {"AVAILABLE": b"serving", "LOADING": b"loading", "UNLOADING": b"draining"}
        state = words[self._readiness.state]
        status = 200 if state == b"serving" else 503
        request.reply(status, b'{"status":"%b"}' % state, JSON_HEADERS)

    def _refusal(self, request: Request) -> RequestError | None:
        """Return what is said to one without the token, and to all before the model is loaded."""
        given = request.headers.get(b"authorization", b"")
        if self._token and not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            return RequestError(
                401,
                "expected the header 'Authorization: Bearer <token>' with this server's token",
                {"www-authenticate": "Bearer"},
            )
        if not self._readiness.is_ready:
            return as_http(LoadingError("the model is still loading; try again"))
        return None

    # --- the end --------------------------------------------------------------------------------

    async def _drain(self, port: Port, rpc: RpcFront | None) -> None:
        """Answer what is in flight and what still comes, then close; see `ModelServer`."""
        connections = self._connections
        log.info("draining: %d requests in flight", self._seen(rpc)[0])
        self._readiness.is_draining = connections.is_draining = True
        leave_at = time.monotonic() + self._options.leave_seconds
        deadline = leave_at + self._manifest.serve.drain_seconds
        await until_nobody_comes(partial(self._seen, rpc), lambda: False, leave_at, deadline)
        port.close()
        if rpc is not None:
            await rpc.stop(max(0.0, deadline - time.monotonic()))
        left = await port.finish(max(deadline, time.monotonic() + _LATE_SECONDS))
        log.info("drained: %d requests cut off", left)

    def _seen(self, rpc: RpcFront | None) -> tuple[int, float]:
        """Return how many requests are in flight, and when the last came, by both protocols."""
        in_flight, last = self._connections.in_flight, self._connections.last_request_at
        if rpc is None:
            return in_flight, last
        return in_flight + rpc.in_flight, max(last, rpc.last_call_at)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._connections.sweep()


class _Answer:
    """Where the answer to a request of our own goes."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def answer(self, _request: Request, status: int, _body: bytes, _headers: bytes) -> None:
        self.status.set_result(status)


def _opened(manifest: PackageManifest, folder: Path) -> OpenedModel:
    model = folder / manifest.model
    if (digest := digest_directory(model)) != manifest.digest:
        raise DataError(
            f"{model}: corrupt: its digest is {digest}, package.json says {manifest.digest}; "
            "package the model again"
        )
    return opened_warm(model, Flags(prefer_tflite_model=manifest.format == "litert"))


async def _not_reloaded(_request: object) -> Never:
    raise CallError(
        StatusCode.UNIMPLEMENTED,
        "this server serves one version of one model, which the traffic plan names; deploy another "
        "version with 'slipway deploy'",
    )


def main(arguments: Sequence[str]) -> int:
    """Run the server; return the process's exit code (0 drained, 2 wrong package or options)."""
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls its first loader old
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = parse(arguments, _PROGRAM)
    np.seterr(all="ignore")  # what is not finite is an answer here
    try:
        uvloop.run(PackagedServer(options).run())
    except SlipwayError as error:
        log.error("%s", error)
        return error.exit_code
    except Exception:
        log.exception("server: unexpected")
        return EXIT_UNEXPECTED
    return EXIT_DONE


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    # At once: TensorFlow was seen to crash in its own tear-down, and loading cannot be interrupted.
    os._exit(code)
