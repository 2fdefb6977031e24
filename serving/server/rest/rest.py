"""The REST APIs for one version of one model, with /healthz and /metrics.

TensorFlow Serving's is under /v1, the Open Inference Protocol's (`rest/open_inference`) under /v2.

Source: https://www.tensorflow.org/tfx/serving/api_rest. Errors are `{"error": "..."}`. We depart in
saying 405 for a wrong method, 503 for a full queue, 404 for an unknown label, and in refusing what
is not JSON (NaN).
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import orjson

from contract.model_io import DEFAULT_SIGNATURE
from serving.server.core import predictions
from serving.server.core.asked import Asked
from serving.server.core.service import Found, Loaded, PredictService
from serving.server.core.spans import ANSWER_HEADER, WANTED_HEADER, server_timing
from serving.server.engines.engine import Outputs
from serving.server.http.cross_origin import CrossOrigin
from serving.server.http.messages import Request, RequestError
from serving.server.http.statuses import as_http
from serving.server.http.targets import model_paths, not_found_words, path_of
from serving.server.requests.errors import ServingError, for_caller
from serving.server.rest.bodies import (
    JSON_HEADERS,
    Body,
    Decoded,
    Formatter,
    caller_of,
    choose_reader,
    parse_body,
    read_examples,
    rows_or_columns,
)
from serving.server.rest.metadata import metadata_body, status_body
from serving.server.rest.open_inference import (
    PlainAnswer,
    open_model_paths,
    plain_answers,
    read_inference,
)

log = logging.getLogger("slipway")

_TEXT_HEADERS = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"
_OF_SERVER = (b"*", b"/")  # `OPTIONS http://host` asks for the server, too (RFC 9112 3.2.4)
_PREDICTIONS = ("predict", "classify", "regress")
_LOGGED = frozenset((*_PREDICTIONS, "infer"))
_TIMING_WANTED = WANTED_HEADER.encode()

_LARGE_BODY_BYTES = 256 * 1024  # above it, reading takes longer than a health check should wait


@dataclass(frozen=True)
class _Route:
    """What a path offers: a name for metrics, and a function by HTTP method."""

    name: str
    methods: Mapping[bytes, Callable[[Request], None]]
    is_open: bool = False  # needs no token


class RestApi:
    """Routes requests, reads their bodies, writes their answers and errors."""

    def __init__(self, service: PredictService, token: str | None = None) -> None:
        """Serve by `service`; with a `token`, everything but /healthz and OPTIONS asks for it."""
        self._service = service
        self._manifest = manifest = service.manifest
        self._authorization = f"Bearer {token}".encode() if token else None
        self._max_body_bytes = int(manifest.serve.max_body_mb * 2**20)
        self._cross_origin = CrossOrigin(manifest.serve.cors_origins)
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
            if request.method == b"OPTIONS" and (route.methods or path in _OF_SERVER):
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
        for base in model_paths(self._manifest, self._service.labels):
            routes[base.encode()] = _Route("status", _get(self._status))
            routes[f"{base}/metadata".encode()] = _Route("metadata", _get(self._metadata))
            for verb in _PREDICTIONS:
                handler = {b"POST": getattr(self, f"_{verb}")}
                routes[f"{base}:{verb}".encode()] = _Route(verb, handler)
        return routes | self._open_inference_routes()

    def _open_inference_routes(self) -> dict[bytes, _Route]:
        routes = {
            one.path.encode(): _Route(one.name, _get(partial(self._plain, one)), one.is_open)
            for one in plain_answers(self._service)
        }
        for base in open_model_paths(self._manifest):
            routes[f"{base}/infer".encode()] = _Route("infer", {b"POST": self._infer})
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
        labels = self._service.labels
        return RequestError(404, not_found_words(path, self._routes, self._manifest, labels))

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
        service = self._service
        state = "draining" if service.is_draining else "serving" if service.loaded else "loading"
        status = 200 if state == "serving" else 503
        self._finish("healthz", request, status, b'{"status":"%b"}' % state.encode())

    def _exposition(self, request: Request) -> None:
        self._finish("metrics", request, 200, self._service.metrics.exposition(), _TEXT_HEADERS)

    def _status(self, request: Request) -> None:
        body = status_body(self._manifest.version, self._service.state)
        self._finish("status", request, 200, body)

    def _metadata(self, request: Request) -> None:
        body = metadata_body(self._manifest, self._service.ready().signatures)
        self._finish("metadata", request, 200, body)

    def _plain(self, one: PlainAnswer, request: Request) -> None:
        self._finish(one.name, request, *one.answer())

    # --- predictions ----------------------------------------------------------------------------

    def _predict(self, request: Request) -> None:
        self._decode("predict", request, self._read_prediction)

    def _read_prediction(self, request: Request, loaded: Loaded) -> Decoded:
        body = parse_body(request, self._max_body_bytes)
        signature, reader = choose_reader(loaded.readers, body)
        if (key := rows_or_columns(body)) == "instances":
            columns, formatter = reader.read_rows(body[key]), predictions.predict_rows
        else:
            columns, formatter = reader.read_columns(body[key]), predictions.predict_columns
        return Asked(signature, columns, key), formatter

    def _infer(self, request: Request) -> None:
        read = partial(read_inference, self._manifest, self._max_body_bytes)
        self._decode("infer", request, read)

    def _classify(self, request: Request) -> None:
        self._decode("classify", request, partial(self._read_examples, "classify"))

    def _regress(self, request: Request) -> None:
        self._decode("regress", request, partial(self._read_examples, "regress"))

    def _read_examples(self, method: str, request: Request, loaded: Loaded) -> Decoded:
        body = parse_body(request, self._max_body_bytes)
        head = self._service.head_of(method, body.get("signature_name"))
        manifest = self._manifest
        rows = read_examples(body, manifest.inputs.keys(), manifest.serve.max_request_rows)
        columns = loaded.readers[DEFAULT_SIGNATURE].read_rows(rows, "examples")

        def formatted(outputs: Outputs) -> bytes:
            if method == "regress":
                return predictions.regress(outputs[head.output])
            return predictions.classify(outputs[head.output], head.config)

        return Asked(DEFAULT_SIGNATURE, columns, "examples"), formatted

    def _decode(
        self, method: str, request: Request, read: Callable[[Request, Loaded], Decoded]
    ) -> None:
        """Read a body and hand on what it asks for; a large one in a thread, beside the others."""
        loaded = self._service.begin()
        if len(request.body) <= _LARGE_BODY_BYTES and not request.headers.get(b"content-encoding"):
            self._submit(method, request, *read(request, loaded))
            return
        reading = asyncio.get_running_loop().run_in_executor(self._decoder, read, request, loaded)
        reading.add_done_callback(partial(self._decoded, method, request))

    def _decoded(self, method: str, request: Request, reading: "asyncio.Future[Decoded]") -> None:
        try:
            self._submit(method, request, *reading.result())
        except Exception as error:  # noqa: BLE001 (as above)
            self._fail(method, request, error)

    def _submit(self, method: str, request: Request, asked: Asked, formatter: Formatter) -> None:
        done = partial(self._predicted, method, request, asked, formatter)
        self._service.submit(request.request_id, asked, done)

    def _predicted(
        self, method: str, request: Request, asked: Asked, formatter: Formatter, found: Found
    ) -> None:
        if isinstance(found, ServingError):
            return self._refuse(method, request, as_http(found))
        try:
            body = formatter(found)
        except Exception as failure:  # noqa: BLE001 (no request may stay without its answer)
            error = self._service.failed(request.request_id, failure)
            return self._refuse(method, request, as_http(error))
        headers = JSON_HEADERS
        if isinstance(body, Body):
            body, headers = body
        seconds = asked.spans.seconds(request.received_at, time.monotonic())
        self._service.metrics.observe_spans(seconds)
        if _TIMING_WANTED in request.headers:
            headers += f"{ANSWER_HEADER}: {server_timing(seconds)}\r\n".encode()
        self._finish(method, request, 200, body, headers)
        self._service.note_answer(caller_of(request), asked, found)
        return None

    # --- answering ------------------------------------------------------------------------------

    def _refuse(self, name: str, request: Request, error: RequestError) -> None:
        headers = "".join(f"{key}: {value}\r\n" for key, value in error.headers.items())
        body = orjson.dumps({"error": for_caller(error)})
        self._finish(name, request, error.status, body, JSON_HEADERS + headers.encode("latin-1"))
        if name in _LOGGED and 400 <= error.status < 500:
            self._service.note_refusal(caller_of(request), error.status)

    def _finish(
        self,
        name: str,
        request: Request,
        status: int,
        body: bytes,
        headers: bytes = JSON_HEADERS,
    ) -> None:
        request.reply(status, body, headers + self._cross_origin.headers(request))
        seconds = time.monotonic() - request.received_at
        self._service.metrics.observe_request(name, status, seconds)


def _get(handler: Callable[[Request], None]) -> dict[bytes, Callable[[Request], None]]:
    return {b"GET": handler, b"HEAD": handler}
