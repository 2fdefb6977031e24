"""TensorFlow Serving's REST API, and the Open Inference Protocol's, for all models of the process.

Source: tensorflow_serving/model_servers/http_rest_api_{handler,util}.cc.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

import orjson
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode

from contract.wire.tensorflow_serving import GetModelStatusResponse, ModelSpec, SignatureDefMap
from serving.server.core.spans import ANSWER_HEADER, WANTED_HEADER, server_timing
from serving.server.grpc.statuses import CallError
from serving.server.http.messages import Request, RequestError
from serving.server.http.targets import path_of
from serving.server.requests.errors import ServingError, for_caller
from serving.server.rest.bodies import JSON_HEADERS, Body, caller_of, content_of
from serving.standalone import json_answers, json_tensors
from serving.standalone.answers import write_status
from serving.standalone.calls import Call
from serving.standalone.inference import Asked, Inference
from serving.standalone.monitoring import Monitoring
from serving.standalone.open_inference import OpenInference, spec_of
from serving.standalone.statuses import http_status, refusal_of

_MODEL = rb"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(_MODEL + rb":(?P<method>classify|regress|predict)", re.IGNORECASE)
_STATUS = re.compile(_MODEL + rb"(?P<metadata>/metadata)?", re.IGNORECASE)
_OPEN_MODEL = rb"/v2/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[^/]+))?"
_INFER = re.compile(_OPEN_MODEL + rb"/(?P<method>infer)")
_OPEN = re.compile(_OPEN_MODEL + rb"(?P<ready>/ready)?")
_LARGE_BODY_BYTES = 256 * 1024  # above it, reading takes longer than other callers should wait
_MOST_VERSION = (1 << 63) - 1
_MOST_DIGITS = len(str(_MOST_VERSION))
_TEXT_HEADERS = b"content-type: text/plain\r\n"
_CORS_HEADERS = (
    b"access-control-allow-origin: *\r\naccess-control-allow-methods: POST, GET\r\n"
    b"access-control-allow-headers: Content-Type\r\n"
)

MAX_BODY_BYTES = 512 << 20


@dataclass(frozen=True)
class RestOptions:
    """How the front answers.

    Attributes:
        timeout_seconds: After which a call is given up.
        metrics_path: Under which Prometheus asks; None: nowhere.
        is_open_to_pages: Whether web pages of any origin may call.
        is_ready: Tells whether predictions are answered.
        max_body_bytes: Of a body, also of what a compressed one inflates to.
    """

    timeout_seconds: float = 30.0
    metrics_path: str | None = None
    is_open_to_pages: bool = False
    is_ready: Callable[[], bool] = lambda: True
    max_body_bytes: int = MAX_BODY_BYTES


class RestFront:
    """Routes requests, reads their bodies, writes their answers and errors."""

    def __init__(self, inference: Inference, monitoring: Monitoring, options: RestOptions) -> None:
        self._inference, self._monitoring, self._options = inference, monitoring, options
        self._metrics_path = (options.metrics_path or "").encode()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = OpenInference(inference, options.is_ready)
        self._methods: dict[str, Callable[[Request, Any, Call], Awaitable[bytes | Body]]] = {
            "infer": partial(self._open.infer, max_bytes=options.max_body_bytes),
            "predict": self._predict,
            "classify": partial(self._examples, inference.classify),
            "regress": partial(self._examples, inference.regress),
        }

    def handle(self, request: Request) -> None:
        """Answer a request, now or when the model has; never raises."""
        path = path_of(request.path)
        if request.error is not None:
            return self._reply(request, request.error.status, _error(request.error))
        if self._metrics_path and path == self._metrics_path and request.method == b"GET":
            return self._reply(request, 200, self._monitoring.exposition(), _TEXT_HEADERS)
        if request.method == b"OPTIONS":
            return self._options_of(request)
        found = _PREDICTION.fullmatch(path) or _INFER.fullmatch(path)
        if request.method == b"POST" and found is not None:
            task = asyncio.create_task(self._answer(request, found))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return None
        return self._plain(request, path)

    # --- predictions ----------------------------------------------------------------------------

    async def _answer(self, request: Request, found: "re.Match[bytes]") -> None:
        method, status, name = found["method"].decode().lower(), "OK", ""
        call = Call(caller_of(request), request.received_at + self._options.timeout_seconds)
        try:
            spec = _open_spec(found) if method == "infer" else _spec(found)
            name = spec.name
            left = call.expires_at - time.monotonic()
            body = await asyncio.wait_for(self._methods[method](request, spec, call), left)
        except RequestError as error:
            status = "INVALID_ARGUMENT"
            self._reply(request, error.status, _error(error))
            call.log_refusal(self._inference.log, error.status)
        except Exception as error:  # noqa: BLE001 (no request may stay without its answer)
            refusal = refusal_of(error)
            status = refusal.code.name
            self._refuse(request, refusal)
            call.log_refusal(self._inference.log, http_status(refusal))
        else:
            whole = body if isinstance(body, Body) else Body(body)
            timing = self._timing(request, name, call)
            self._reply(request, 200, whole.content, whole.headers + timing)
            call.log_answers(self._inference.log)
        seconds = time.monotonic() - request.received_at
        self._monitoring.observe(name, method, "REST", status, seconds)

    def _timing(self, request: Request, model: str, call: Call) -> bytes:
        """Count where the time of an answer went; return it as a header where it is wanted."""
        if (seconds := call.seconds(time.monotonic())) is None:
            return b""
        self._monitoring.observe_spans(model, seconds)
        if WANTED_HEADER.encode() not in request.headers:
            return b""
        return f"{ANSWER_HEADER}: {server_timing(seconds)}\r\n".encode()

    async def _predict(self, request: Request, spec: Any, call: Call) -> bytes:
        body = await self._body(request)
        spec.signature_name = body.get("signature_name", "")
        is_by_row = json_tensors.is_by_row(body)

        def read(signature: Any) -> Any:
            if is_by_row:
                return json_tensors.tensors_of_rows(body["instances"], signature)
            return json_tensors.tensors_of_columns(body["inputs"], signature)

        asked = Asked(spec, read, (), _is_large(request))
        outputs = (await self._inference.predict(asked, call)).found
        write = json_answers.rows_json if is_by_row else json_answers.columns_json
        return write(outputs)

    async def _examples(self, infer: Any, request: Request, spec: Any, call: Call) -> bytes:
        body = await self._body(request)
        spec.signature_name = body.get("signature_name", "")
        if _is_large(request) or "context" in body:
            examples = await asyncio.to_thread(json_tensors.examples_of, body)
        else:
            examples = json_tensors.examples_of(body)
        return json_answers.results_json((await infer(spec, examples, call)).found)

    async def _body(self, request: Request) -> dict[str, Any]:
        if _is_large(request):
            return await asyncio.to_thread(_decoded, request, self._options.max_body_bytes)
        return json_tensors.read_object(request.body)

    # --- small answers --------------------------------------------------------------------------

    def _plain(self, request: Request, path: bytes) -> None:
        found = _STATUS.fullmatch(path) if request.method == b"GET" else None
        try:
            if request.method == b"GET" and path.startswith(b"/v2"):
                return self._reply(request, *self._open_answer(path))
            if found is None:
                raise _malformed(request, path)
            spec = _spec(found)
            body = self._metadata(spec) if found["metadata"] else self._status(spec)
        except (CallError, ServingError) as error:
            self._refuse(request, refusal_of(error))
        else:
            self._reply(request, 200, body)

    def _open_answer(self, path: bytes) -> tuple[int, bytes]:
        if (told := self._open.plain(path[len(b"/v2") :].decode("latin-1"))) is not None:
            return told
        if (found := _OPEN.fullmatch(path)) is None:
            raise CallError(StatusCode.NOT_FOUND, f"{path.decode('latin-1')[:200]}: not found")
        spec = _open_spec(found)
        return 200, self._open.ready(spec) if found["ready"] else _json(self._open.metadata(spec))

    def _status(self, spec: Any) -> bytes:
        answer = GetModelStatusResponse()
        write_status(answer, self._inference.servables.status(spec))
        return _json(_shown(answer))

    def _metadata(self, spec: Any) -> bytes:
        with self._inference.servables.use(spec) as version:
            definitions = SignatureDefMap()
            assert version.opened is not None
            for name, signature in version.opened.signatures.items():
                definitions.signature_def[name].CopyFrom(signature)
            number = str(version.number)
        model = {"name": spec.name, "signature_name": "", "version": number}
        return _json({"model_spec": model, "metadata": {"signature_def": _shown(definitions)}})

    def _options_of(self, request: Request) -> None:
        if request.headers.get(b"origin", b"").startswith((b"http://", b"https://")):
            return self._reply(request, 200, b"")
        words = "Origin header is missing in CORS preflight"
        return self._refuse(request, CallError(StatusCode.FAILED_PRECONDITION, words))

    # --- answering ------------------------------------------------------------------------------

    def _refuse(self, request: Request, refusal: CallError) -> None:
        self._reply(request, http_status(refusal), _error(refusal))

    def _reply(
        self, request: Request, status: int, body: bytes, headers: bytes = JSON_HEADERS
    ) -> None:
        if self._options.is_open_to_pages:
            headers += _CORS_HEADERS
        request.reply(status, body, headers)


def _is_large(request: Request) -> bool:
    """Tell whether reading takes long enough for a thread; what a body inflates to is unknown."""
    is_compressed = bool(request.headers.get(b"content-encoding"))
    return is_compressed or len(request.body) > _LARGE_BODY_BYTES


def _decoded(request: Request, max_bytes: int) -> dict[str, Any]:
    return json_tensors.read_object(content_of(request, max_bytes))


def _spec(found: "re.Match[bytes]") -> Any:
    spec = ModelSpec(name=_text(found["name"]))
    if found["version"]:
        digits = found["version"].decode().lstrip("0") or "0"
        # First their count, because Python refuses to read more than 4,300 digits.
        if len(digits) > _MOST_DIGITS or int(digits) > _MOST_VERSION:
            words = f"Failed to convert version: {digits} to numeric."
            raise CallError(StatusCode.INVALID_ARGUMENT, words)
        spec.version.value = int(digits)
    if found["label"]:
        spec.version_label = _text(found["label"])
    return spec


def _open_spec(found: "re.Match[bytes]") -> Any:
    return spec_of(_text(found["name"]), _text(found["version"] or b""))


def _text(quoted: bytes) -> str:
    return unquote(quoted.decode("latin-1"), errors="replace")


def _malformed(request: Request, path: bytes) -> CallError:
    where = path.decode("latin-1")[:200]
    if not path.lower().startswith(b"/v1/"):
        return CallError(StatusCode.NOT_FOUND, f"{where}: not found; models are under /v1/models/")
    method = request.method.decode("latin-1")
    return CallError(StatusCode.INVALID_ARGUMENT, f"Malformed request: {method} {where}")


def _shown(message: Any) -> Any:
    return MessageToDict(
        message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )


def _json(value: Any) -> bytes:
    return orjson.dumps(value)


def _error(error: Exception) -> bytes:
    return orjson.dumps({"error": for_caller(error)})
