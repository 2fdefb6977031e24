"""TensorFlow Serving's REST API for one version of one model, with /healthz and /metrics.

Source: https://www.tensorflow.org/tfx/serving/api_rest. Errors are `{"error": "..."}`. We depart in
saying 405 for a wrong method, 503 for a full queue, 404 for an unknown label, and in refusing what
is not JSON (NaN).
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from contract.model_io import DEFAULT_SIGNATURE, output_names
from contract.records.package import PackageManifest
from contract.records.prediction import ARM_HEADER, ARMS
from contract.schema.data import HeadConfig
from serving.server.core import predictions
from serving.server.core.batching import Batcher, Job, Outcome
from serving.server.core.faults import FaultInjector
from serving.server.core.metrics import ServerMetrics
from serving.server.core.prediction_columns import Answer
from serving.server.core.prediction_log import PredictionLog, is_logged
from serving.server.engines.engine import (
    Columns,
    Outputs,
    RefusedInputError,
    Signature,
)
from serving.server.http.cross_origin import CrossOrigin
from serving.server.http.messages import Request, RequestError
from serving.server.http.targets import DEFAULT_LABELS, model_paths, not_found_words, path_of
from serving.server.requests.errors import ServingError
from serving.server.requests.instances import InputReader
from serving.server.rest.asked import Asked, Decoded, Formatter
from serving.server.rest.bodies import choose_reader, parse_body, read_examples, rows_or_columns
from serving.server.rest.metadata import metadata_body, status_body
from serving.server.rest.statuses import as_http

log = logging.getLogger("slipway")

_JSON_HEADERS = b"content-type: application/json\r\n"
_TEXT_HEADERS = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"
_ARM_HEADER = ARM_HEADER.encode()
_ARMS = frozenset(arm.encode() for arm in ARMS)
_PREDICTIONS = ("predict", "classify", "regress")

_LARGE_BODY_BYTES = 256 * 1024  # above it, reading takes longer than a health check should wait
_LONGEST_WORDS = 2000  # characters of an error: names and values of callers may be of any length


@dataclass(frozen=True)
class Loaded:
    """What answers predictions once the model is there."""

    batcher: Batcher
    readers: Mapping[str, InputReader]
    signatures: Mapping[str, Signature]
    prediction_log: PredictionLog | None = None


@dataclass(frozen=True)
class _Route:
    """What a path offers: a name for metrics, and a function by HTTP method."""

    name: str
    methods: Mapping[bytes, Callable[[Request], None]]
    is_open: bool = False  # needs no token


class RestApi:
    """Routes requests; answers 503 for predictions until `loaded` is set."""

    def __init__(
        self,
        manifest: PackageManifest,
        metrics: ServerMetrics,
        token: str | None = None,
        labels: Sequence[str] = DEFAULT_LABELS,
    ) -> None:
        """Serve `manifest`; with a `token`, everything but /healthz and OPTIONS asks for it.

        The version is also found under `/labels/LABEL` for each of its labels.
        """
        self.loaded: Loaded | None = None
        self.is_draining = False
        self._manifest = manifest
        self._metrics = metrics
        self._authorization = f"Bearer {token}".encode() if token else None
        self._outputs = output_names(manifest.heads)
        self._log_ratio = manifest.serve.prediction_log_ratio
        self._max_body_bytes = int(manifest.serve.max_body_mb * 2**20)
        self._cross_origin = CrossOrigin(manifest.serve.cors_origins)
        self._labels = tuple(labels)
        self._faults = FaultInjector(manifest.serve.fault_ratio, metrics.observe_fault)
        self._decoder = ThreadPoolExecutor(1, "decoder")
        self._routes = self._make_routes()
        self._unknown = _Route("other", {})

    def handle(self, request: Request) -> None:
        """Answer a request, now or when the model has; never raises."""
        path = path_of(request.path)
        route = self._routes.get(path, self._unknown)
        try:
            if request.error is not None:
                raise request.error
            if request.method == b"OPTIONS" and (route.methods or path == b"*"):
                return self._options(request, route)
            if self._authorization is not None and not route.is_open:
                self._check_token(request)
            handler = route.methods.get(request.method)
            if handler is None:
                raise self._not_handled(request, path, route)
            handler(request)
        except Exception as error:  # noqa: BLE001 (no request may stay without its answer)
            self._fail(route.name, request, error)
        return None

    def _fail(self, name: str, request: Request, error: BaseException) -> None:
        """Answer with an error that handling the request has raised."""
        if isinstance(error, ServingError):
            error = as_http(error)
        elif not isinstance(error, RequestError):
            log.error("request %s failed", request.request_id, exc_info=error)
            error = RequestError(500, "the server failed; see its log")
        self._refuse(name, request, error)

    # --- routes ---------------------------------------------------------------------------------

    def _make_routes(self) -> dict[bytes, _Route]:
        routes = {
            b"/healthz": _Route("healthz", _get(self._healthz), is_open=True),
            b"/metrics": _Route("metrics", _get(self._exposition)),
        }
        for base in model_paths(self._manifest, self._labels):
            routes[base.encode()] = _Route("status", _get(self._status))
            routes[f"{base}/metadata".encode()] = _Route("metadata", _get(self._metadata))
            for verb in _PREDICTIONS:
                handler = {b"POST": getattr(self, f"_{verb}")}
                routes[f"{base}:{verb}".encode()] = _Route(verb, handler)
        return routes

    def _not_handled(self, request: Request, path: bytes, route: _Route) -> RequestError:
        if route.methods:
            allowed = b", ".join(route.methods).decode()
            return RequestError(
                405,
                f"{path.decode('latin-1')}: method {request.method.decode('latin-1')} is not "
                f"allowed; expected {allowed}",
                {"allow": f"{allowed}, OPTIONS"},
            )
        words = not_found_words(path, self._routes, self._manifest, self._labels)
        return RequestError(404, words)

    def _check_token(self, request: Request) -> None:
        given = request.headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, self._authorization or b""):
            raise RequestError(
                401,
                "expected the header 'Authorization: Bearer <token>' with this server's token",
                {"www-authenticate": "Bearer"},
            )

    # --- small answers --------------------------------------------------------------------------

    def _options(self, request: Request, route: _Route) -> None:
        methods = route.methods or (b"GET", b"HEAD", b"POST")  # of the server, for `OPTIONS *`
        self._finish("options", request, 200, b"", self._cross_origin.options(request, [*methods]))

    def _healthz(self, request: Request) -> None:
        state = "draining" if self.is_draining else "serving" if self.loaded else "loading"
        status = 200 if state == "serving" else 503
        self._finish("healthz", request, status, b'{"status":"%b"}' % state.encode())

    def _exposition(self, request: Request) -> None:
        self._finish("metrics", request, 200, self._metrics.exposition(), _TEXT_HEADERS)

    def _status(self, request: Request) -> None:
        state = "UNLOADING" if self.is_draining else "AVAILABLE" if self.loaded else "LOADING"
        self._finish("status", request, 200, status_body(self._manifest.version, state))

    def _metadata(self, request: Request) -> None:
        body = metadata_body(self._manifest, self._ready().signatures)
        self._finish("metadata", request, 200, body)

    # --- predictions ----------------------------------------------------------------------------

    def _predict(self, request: Request) -> None:
        self._decode("predict", request, partial(self._read_prediction, request, self._ready()))

    def _read_prediction(self, request: Request, loaded: Loaded) -> Decoded:
        body = parse_body(request, self._max_body_bytes)
        signature, reader = choose_reader(loaded.readers, body)
        if (key := rows_or_columns(body)) == "instances":
            columns, formatter = reader.read_rows(body[key]), predictions.predict_rows
        else:
            columns, formatter = reader.read_columns(body[key]), predictions.predict_columns
        return Asked(signature, columns, key), formatter

    def _classify(self, request: Request) -> None:
        tasks = ("binary_classification", "multiclass_classification")
        self._predict_examples("classify", request, tasks)

    def _regress(self, request: Request) -> None:
        self._predict_examples("regress", request, ("regression",))

    def _predict_examples(self, method: str, request: Request, tasks: tuple[str, ...]) -> None:
        read = partial(self._read_examples, method, request, tasks, self._ready())
        self._decode(method, request, read)

    def _read_examples(
        self, method: str, request: Request, tasks: tuple[str, ...], loaded: Loaded
    ) -> Decoded:
        body = parse_body(request, self._max_body_bytes)
        head, config = self._choose_head(method, body.get("signature_name"), tasks)
        columns = loaded.readers[DEFAULT_SIGNATURE].read_rows(read_examples(body), "examples")
        name = self._outputs[head]

        def formatted(outputs: Outputs) -> bytes:
            if method == "regress":
                return predictions.regress(outputs[name])
            return predictions.classify(outputs[name], config)

        return Asked(DEFAULT_SIGNATURE, columns, "examples"), formatted

    def _decode(self, method: str, request: Request, read: Callable[[], Decoded]) -> None:
        """Read a body and hand on what it asks for; a large one in a thread, while others go on."""
        self._faults.maybe_fail()
        if len(request.body) <= _LARGE_BODY_BYTES and not request.headers.get(b"content-encoding"):
            self._submit(method, request, *read())
            return
        reading = asyncio.get_running_loop().run_in_executor(self._decoder, read)
        reading.add_done_callback(partial(self._decoded, method, request))

    def _decoded(self, method: str, request: Request, reading: "asyncio.Future[Decoded]") -> None:
        try:
            self._submit(method, request, *reading.result())
        except Exception as error:  # noqa: BLE001 (as above)
            self._fail(method, request, error)

    def _choose_head(
        self, method: str, wanted: Any, tasks: tuple[str, ...]
    ) -> tuple[str, HeadConfig]:
        heads = {n: h for n, h in self._manifest.heads.items() if h.task in tasks}
        if not heads:
            raise RequestError(400, f":{method}: '{self._manifest.pipeline}' has no such head")
        if type(wanted) is str and wanted in heads:
            return wanted, heads[wanted]
        names = ", ".join(f"'{name}'" for name in heads)
        if wanted not in (None, "", DEFAULT_SIGNATURE):
            raise RequestError(400, f"signature_name: found {wanted!r}, expected a head: {names}")
        if len(heads) > 1:
            raise RequestError(400, f"signature_name: several heads, name one of {names}")
        return next(iter(heads.items()))

    def _submit(self, method: str, request: Request, asked: Asked, formatter: Formatter) -> None:
        rows = len(next(iter(asked.columns.values())))
        done = partial(self._predicted, method, request, asked, formatter)
        self._ready().batcher.submit(Job(asked.signature, asked.columns, rows, done))

    def _predicted(
        self,
        method: str,
        request: Request,
        asked: Asked,
        formatter: Formatter,
        outcome: Outcome,
    ) -> None:
        if isinstance(outcome, RefusedInputError):
            return self._refuse(method, request, RequestError(400, asked.refusal(outcome)))
        try:
            if isinstance(outcome, Exception):
                raise outcome
            body = formatter(outcome)
        except Exception as failure:  # noqa: BLE001 (no request may stay without its answer)
            log.error("request %s: the model failed: %s", request.request_id, failure)
            error = RequestError(500, f"the model failed: {failure}")
            return self._refuse(method, request, error)
        self._finish(method, request, 200, body)
        if (writer := self._log_for(request)) is not None:
            inputs = asked.columns if writer.samples(request.request_id) else None
            writer.add(_answer(request, outcome, asked.signature, inputs))
        return None

    def _log_for(self, request: Request) -> PredictionLog | None:
        if self.loaded is None or not is_logged(request.request_id, self._log_ratio):
            return None
        return self.loaded.prediction_log

    def _ready(self) -> Loaded:
        if self.loaded is None:
            # The second header tells the proxy in front that it may try again itself.
            headers = {"retry-after": "1", "x-slipway-loading": "1"}
            raise RequestError(503, "the model is still loading; try again", headers)
        return self.loaded

    # --- answering ------------------------------------------------------------------------------

    def _refuse(self, name: str, request: Request, error: RequestError) -> None:
        headers = "".join(f"{key}: {value}\r\n" for key, value in error.headers.items())
        body = orjson.dumps({"error": _cut(str(error))})
        self._finish(name, request, error.status, body, _JSON_HEADERS + headers.encode("latin-1"))
        is_callers = 400 <= error.status < 500
        if name in _PREDICTIONS and is_callers and (writer := self._log_for(request)) is not None:
            writer.add(_answer(request, error.status))

    def _finish(
        self,
        name: str,
        request: Request,
        status: int,
        body: bytes,
        headers: bytes = _JSON_HEADERS,
    ) -> None:
        request.reply(status, body, headers + self._cross_origin.headers(request))
        self._metrics.observe_request(name, status, time.monotonic() - request.received_at)


def _answer(
    request: Request, found: Outputs | int, signature: str = "", inputs: Columns | None = None
) -> Answer:
    """Return what the prediction log keeps of a request."""
    arm = request.headers.get(_ARM_HEADER, b"")
    arm = arm if arm in _ARMS else b""  # a caller that asks the server itself may send anything
    seconds = time.monotonic() - request.received_at
    return Answer(request.request_id, arm, signature, time.time(), seconds, found, inputs)


def _get(handler: Callable[[Request], None]) -> dict[bytes, Callable[[Request], None]]:
    return {b"GET": handler, b"HEAD": handler}


def _cut(words: str) -> str:
    return words if len(words) <= _LONGEST_WORDS else f"{words[:_LONGEST_WORDS]}..."
