"""`python -m serving.standalone.packaged --package DIR --port P`: serve one imported package.

It takes the options of `python -m serving.server`, and is to the serving agent and to Envoy what
that is: it listens at once, answers /healthz, says which version answers, and drains on SIGTERM. To
callers it is TensorFlow Serving: any signature, by REST and gRPC, also by the Open Inference
Protocol.
"""

import asyncio
import hmac
import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any, Never

import orjson
from grpc import StatusCode

from contract.errors import DataError
from contract.records.package import PackageManifest
from contract.storage import digest_directory
from serving.server.core.prediction_log import open_log
from serving.server.frame import GrpcServer, PackageServer
from serving.server.grpc.calls import check_token
from serving.server.grpc.front import MAX_CONCURRENT_CALLS, credentials_of
from serving.server.grpc.statuses import CallError
from serving.server.http.messages import Request, RequestError
from serving.server.http.statuses import as_http
from serving.server.http.targets import path_of
from serving.server.options import parse
from serving.server.program import leave, quiet_tensorflow, run_program
from serving.server.requests.errors import LoadingError
from serving.server.rest.bodies import JSON_HEADERS
from serving.standalone.configuration import Batching, ModelConfig
from serving.standalone.flags import Flags
from serving.standalone.inference import Inference
from serving.standalone.limits import Limits
from serving.standalone.monitoring import Monitoring
from serving.standalone.opening import OpenedModel
from serving.standalone.process import Readiness, opened_warm
from serving.standalone.rest import RestFront, RestOptions
from serving.standalone.rpc import RpcFront, RpcOptions
from serving.standalone.running import BatchingRunner, DirectRunner, Runner
from serving.standalone.servables import Loading, Servables

log = logging.getLogger("slipway")

_METRICS_PATH = "/metrics"
_OPEN_PATHS = (b"/v2/health/live", b"/v2/health/ready")  # need no token, as /healthz
_WARM_UP_ROWS = 64


class PackagedServer(PackageServer):
    """The server of an imported model."""

    def _make(self) -> None:
        manifest = self._manifest
        if not manifest.is_imported:
            raise DataError(
                f"{self._options.package}: found the package of a pipeline's model; serve it with "
                "'python -m serving.server'"
            )
        self._readiness = Readiness()
        self._threads = ThreadPoolExecutor(4 * len(os.sched_getaffinity(0)), "model")
        self._servables = Servables(
            partial(_opened, manifest),
            self._runner_of,
            Loading(retries=0, allows_unknown_labels=True),
            lambda _: {manifest.version: self._options.package},
        )
        self._most_bytes = int(manifest.serve.max_body_mb * 2**20)
        limits = Limits(manifest.serve.max_request_rows, manifest.serve.max_cells, self._most_bytes)
        self._inference = Inference(self._servables, limits=limits)
        self._monitoring = Monitoring(self._servables)
        options = RestOptions(
            metrics_path=_METRICS_PATH,
            is_ready=lambda: self._readiness.state == "AVAILABLE",
            max_body_bytes=self._most_bytes,
        )
        self._rest = RestFront(self._inference, self._monitoring, options)

    def _make_grpc(self) -> GrpcServer:
        options = self._rpc_options()
        front = RpcFront(self._inference, _not_reloaded, self._monitoring, options)
        if options.port is not None:
            log.info("gRPC at %s:%d", options.host, front.port)
        return front

    def _begin_draining(self) -> None:
        self._readiness.is_draining = True

    async def _close(self) -> None:
        await self._servables.close()
        if self._inference.log is not None:
            self._inference.log.close()

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
        predictions = self._options.predictions
        self._inference.log = open_log(predictions, manifest, self._monitoring.observe_dropped)
        self._readiness.is_ready = True

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
        serve = self._manifest.serve
        if not serve.enable_batching:
            return DirectRunner(model, self._threads)
        return BatchingRunner(model, Batching(serve, serve.max_request_rows))

    def _rpc_options(self) -> RpcOptions:
        options = self._options
        return RpcOptions(
            options.host,
            options.grpc_port,
            str(options.grpc_socket or ""),
            is_private=True,
            credentials=credentials_of(options.certificate, options.key),
            watched=self._readiness,
            admit=self._admit,
            most_bytes=self._most_bytes,
            most_calls=MAX_CONCURRENT_CALLS,
        )

    def _admit(self, metadata: Iterable[tuple[str, Any]] | None) -> None:
        check_token(metadata, self._token)
        self._check_loaded()

    def _check_loaded(self) -> None:
        if not self._readiness.is_ready:
            raise LoadingError("the model is still loading; try again")

    # --- requests -------------------------------------------------------------------------------

    def _handle(self, request: Request) -> None:
        """Answer a request, now or when the model has; never raises."""
        path = path_of(request.path)
        if path == b"/healthz" and request.error is None:
            return self._healthz(request)
        is_open = path in _OPEN_PATHS
        if (
            request.error is None
            and not is_open
            and (refusal := self._refusal(request)) is not None
        ):
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
        try:
            self._check_loaded()
        except LoadingError as error:
            return as_http(error)
        return None


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
    quiet_tensorflow()
    options = parse(arguments, "python -m serving.standalone.packaged", __doc__)
    return run_program(lambda: PackagedServer(options), sys.stdout)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
