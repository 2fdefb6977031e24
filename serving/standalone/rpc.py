"""TensorFlow Serving's gRPC API, and the Open Inference Protocol's, for all models of the process.

Source: tensorflow_serving/model_servers/{prediction_service_impl,model_service_impl}.cc.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode, aio

from contract.errors import ConfigError
from contract.wire import tensorflow_serving as wire
from contract.wire.open_inference import ModelInferRequest
from contract.wire.tensors import write_tensor
from serving.server.core.spans import ANSWER_HEADER, WANTED_HEADER, server_timing
from serving.server.grpc.calls import LOADING, PREDICTIONS, Callers
from serving.server.grpc.health import Health, Watched
from serving.server.grpc.inference_service import SERVICE as OPEN_INFERENCE
from serving.server.grpc.model_service import session_methods
from serving.server.grpc.statuses import CallError
from serving.server.requests.errors import SHOWN_CHARACTERS, LoadingError, for_caller
from serving.standalone.answers import (
    write_classes,
    write_content,
    write_spec,
    write_status,
    write_values,
)
from serving.standalone.calls import Call
from serving.standalone.inference import CLASSIFY, Asked, Inference, Task
from serving.standalone.messages import arrays_of, copied, count_of, examples_of, filled
from serving.standalone.monitoring import Monitoring
from serving.standalone.open_inference import OpenInference
from serving.standalone.statuses import http_status, refusal_of

Method = Callable[[Any, Call], Awaitable[Any]]
Reload = Callable[[Any], Awaitable[None]]
Admit = Callable[[Iterable[tuple[str, Any]] | None], None]

_PREDICTIONS = "tensorflow.serving.PredictionService"
_MODELS = "tensorflow.serving.ModelService"
_SESSIONS = "tensorflow.serving.SessionService"
_MOST_BYTES = (1 << 31) - 1
_LARGE_MESSAGE_BYTES = 256 * 1024  # above it, reading takes longer than other callers should wait


@dataclass(frozen=True)
class RpcOptions:
    """Where to listen, and how to answer.

    Attributes:
        host: Of `port`.
        port: None: none; 0 takes a free one.
        socket: A Unix socket to make; empty: none.
        arguments: Of the gRPC server.
        credentials: Of TLS; None: no TLS.
        answers_content: Whether Predict answers in `tensor_content`.
        watched: Whose health is told; None: nobody's.
        admit: Raises for calls that are refused because of their metadata, or for now.
        most_bytes: Of a message that is taken.
        most_calls: At a time; further ones get RESOURCE_EXHAUSTED. None: any number.
        is_private: Whether only the socket's owner may use it.
    """

    host: str
    port: int | None
    socket: str = ""
    arguments: Sequence[tuple[str, int | str]] = ()
    credentials: grpc.ServerCredentials | None = None
    answers_content: bool = False
    watched: Watched | None = None
    admit: Admit = lambda _metadata: None
    most_bytes: int = _MOST_BYTES
    most_calls: int | None = None
    is_private: bool = False


class RpcFront:
    """All gRPC services. Belongs to the running event loop.

    Attributes:
        in_flight: How many calls are being answered.
        last_call_at: When the last one came, of `time.monotonic`.
    """

    def __init__(
        self, inference: Inference, reload: Reload, monitoring: Monitoring, options: RpcOptions
    ) -> None:
        """Take the ports.

        Raises:
            ConfigError: If one of them cannot be used.
        """
        self._inference, self._reload, self._monitoring = inference, reload, monitoring
        self._options = options
        self._open = OpenInference(inference, self._is_ready)
        self._callers = Callers()
        self.in_flight, self.last_call_at = 0, time.monotonic()
        limits = (
            ("grpc.max_receive_message_length", min(options.most_bytes, _MOST_BYTES)),
            ("grpc.max_send_message_length", _MOST_BYTES),
            ("grpc.so_reuseport", 0),  # a second server on the same port is an error
        )
        self._server = aio.server(
            options=(*limits, *options.arguments), maximum_concurrent_rpcs=options.most_calls
        )
        self._server.add_generic_rpc_handlers(self._handlers())
        self.port = self._listen()

    async def start(self) -> None:
        """Answer."""
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no more calls, and wait for those in flight."""
        await self._server.stop(grace_seconds)

    def _is_ready(self) -> bool:
        watched = self._options.watched
        return watched is None or watched.state == "AVAILABLE"

    # --- calls ----------------------------------------------------------------------------------

    def _handlers(self) -> list[grpc.GenericRpcHandler]:
        services: dict[str, dict[str, tuple[Any, Method]]] = {
            _PREDICTIONS: {
                "Predict": (wire.PredictRequest, self._predict),
                "Classify": (wire.ClassificationRequest, self._classify),
                "Regress": (wire.RegressionRequest, self._regress),
                "MultiInference": (wire.MultiInferenceRequest, self._multi_inference),
                "GetModelMetadata": (wire.GetModelMetadataRequest, self._metadata),
            },
            _MODELS: {
                "GetModelStatus": (wire.GetModelStatusRequest, self._status),
                "HandleReloadConfigRequest": (wire.ReloadConfigRequest, self._reloaded),
            },
            OPEN_INFERENCE: self._open.methods(),
            _SESSIONS: {name: (None, _refused(m)) for name, m in session_methods().items()},
        }
        made = [
            grpc.method_handlers_generic_handler(service, self._wrapped(methods))
            for service, methods in services.items()
        ]
        if self._options.watched is not None:
            names = [*services, "PredictionService", "ModelService"]
            made.append(Health(self._options.watched, names).handlers())
        return made

    def _wrapped(self, methods: Mapping[str, tuple[Any, Method]]) -> dict[str, Any]:
        return {
            name: grpc.unary_unary_rpc_method_handler(self._handler(name, kind, method))
            for name, (kind, method) in methods.items()
        }

    def _handler(self, name: str, kind: Any, method: Method) -> Any:
        async def handle(message: bytes, context: "aio.ServicerContext[Any, Any]") -> bytes:
            self.last_call_at = started = time.monotonic()
            self.in_flight += 1
            metadata, left = context.invocation_metadata(), context.time_remaining()
            call, log, model = None, self._inference.log, ""
            try:
                self._options.admit(metadata)
                caller = self._callers.of(dict(metadata or ()))
                call = Call(caller, math.inf if left is None else started + left)
                request = await _read(kind, message)
                model = _model_of(request)
                answer = await method(request, call)
                whole = bytes(answer.SerializeToString())
            except asyncio.CancelledError:
                raise
            except Exception as error:  # no call may stay without its status
                refusal = refusal_of(error)
                self._observe(model, name, refusal.code, started)
                if call is not None and name in PREDICTIONS:
                    call.log_refusal(log, http_status(refusal))
                if isinstance(error, LoadingError):
                    context.set_trailing_metadata(LOADING)
                await context.abort(refusal.code, for_caller(refusal))
                raise  # never: abort raises
            finally:
                self.in_flight -= 1
            self._observe(model, name, StatusCode.OK, started)
            if (seconds := call.seconds(time.monotonic())) is not None:
                self._monitoring.observe_spans(model, seconds)
                if WANTED_HEADER in dict(metadata or ()):
                    context.set_trailing_metadata(((ANSWER_HEADER, server_timing(seconds)),))
            call.log_answers(log)
            return whole

        return handle

    def _observe(self, model: str, name: str, code: StatusCode, started: float) -> None:
        self._monitoring.observe(model, name, "GRPC", code.name, time.monotonic() - started)

    # --- predictions ----------------------------------------------------------------------------

    async def _predict(self, request: Any, call: Call) -> Any:
        is_large = request.ByteSize() + filled(request.inputs) > _LARGE_MESSAGE_BYTES
        asked = Asked(
            request.model_spec,
            lambda _signature: arrays_of(request.inputs, self._inference.limits.copied_bytes),
            list(request.output_filter),
            is_large,
        )
        answered = await self._inference.predict(asked, call)
        answer = wire.PredictResponse()
        for name, array in answered.found.items():
            if self._options.answers_content:
                write_content(answer.outputs[name], array)
            else:
                write_tensor(answer.outputs[name], array)
        write_spec(answer.model_spec, request.model_spec, answered)
        return answer

    async def _classify(self, request: Any, call: Call) -> Any:
        examples = await self._examples(request.input)
        answered = await self._inference.classify(request.model_spec, examples, call)
        answer = wire.ClassificationResponse()
        write_classes(answer.result, answered.found)
        write_spec(answer.model_spec, request.model_spec, answered)
        return answer

    async def _regress(self, request: Any, call: Call) -> Any:
        examples = await self._examples(request.input)
        answered = await self._inference.regress(request.model_spec, examples, call)
        answer = wire.RegressionResponse()
        write_values(answer.result, answered.found)
        write_spec(answer.model_spec, request.model_spec, answered)
        return answer

    async def _multi_inference(self, request: Any, call: Call) -> Any:
        tasks = [Task(one.model_spec, one.method_name) for one in request.tasks]
        examples = await self._examples(request.input)
        found = await self._inference.infer(tasks, examples, call)
        answer = wire.MultiInferenceResponse()
        for task, answered in zip(tasks, found, strict=True):
            result = answer.results.add()
            write_spec(result.model_spec, task.spec, answered)
            if task.method == CLASSIFY:
                result.classification_result.SetInParent()
                write_classes(result.classification_result, answered.found)
            else:
                result.regression_result.SetInParent()
                write_values(result.regression_result, answered.found)
        return answer

    async def _examples(self, given: Any) -> list[bytes]:
        limits = self._inference.limits
        limits.check_examples(count_of(given))
        if given.ByteSize() + copied(given) > _LARGE_MESSAGE_BYTES:
            return await asyncio.to_thread(examples_of, given, limits.copied_bytes)
        return examples_of(given, limits.copied_bytes)

    # --- models ---------------------------------------------------------------------------------

    async def _metadata(self, request: Any, _call: Call) -> Any:
        if not request.HasField("model_spec"):
            raise _invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise _invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != wire.SIGNATURE_FIELD:
                raise _invalid(f"Metadata field {field[:SHOWN_CHARACTERS]} is not supported")
        answer = wire.GetModelMetadataResponse()
        with self._inference.servables.use(request.model_spec) as version:
            assert version.opened is not None
            definitions = wire.SignatureDefMap()
            for name, signature in version.opened.signatures.items():
                definitions.signature_def[name].CopyFrom(signature)
            answer.model_spec.version.value = version.number
        answer.model_spec.name = request.model_spec.name
        answer.metadata[wire.SIGNATURE_FIELD].Pack(definitions)
        return answer

    async def _status(self, request: Any, _call: Call) -> Any:
        if not request.HasField("model_spec"):
            raise _invalid("Missing ModelSpec")
        answer = wire.GetModelStatusResponse()
        write_status(answer, self._inference.servables.status(request.model_spec))
        return answer

    async def _reloaded(self, request: Any, _call: Call) -> Any:
        if request.config.WhichOneof("config") != "model_config_list":
            raise _invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                "ModelConfigList is currently supported"
            )
        await self._reload(request.config)
        answer = wire.ReloadConfigResponse()
        answer.status.SetInParent()
        for name in request.metric_names:
            answer.metric.add(name=name, int64_value_increase=0)
        return answer

    # --- ports ----------------------------------------------------------------------------------

    def _listen(self) -> int:
        options = self._options
        if options.socket:
            _remove_socket(Path(options.socket))
            self._bind(f"unix:{options.socket}")
            if options.is_private:
                Path(options.socket).chmod(0o600)
        if options.port is None:
            return 0
        host = f"[{options.host}]" if ":" in options.host else options.host
        return self._bind(f"{host}:{options.port}")

    def _bind(self, address: str) -> int:
        credentials = self._options.credentials
        try:
            if credentials is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, credentials))
        except (RuntimeError, OSError) as error:
            raise ConfigError([f"{address}: cannot listen there: {error}"]) from error


def _remove_socket(path: Path) -> None:
    """Remove the socket of a server that was killed; refuse to remove anything else."""
    if path.is_socket():
        path.unlink(missing_ok=True)
    elif path.exists():
        raise ConfigError(
            [f"{path}: cannot listen there: found a file that is not a socket; choose another "
             "--grpc_socket_path"]
        )  # fmt: skip


async def _read(kind: Any, message: bytes) -> Any:
    if kind is None:
        return None
    try:
        if len(message) > _LARGE_MESSAGE_BYTES:
            return await asyncio.to_thread(kind.FromString, message)
        return kind.FromString(message)
    except DecodeError as error:
        raise _invalid(f"the message is not a {kind.DESCRIPTOR.name}") from error


def _refused(method: Any) -> Method:
    async def refuse(_request: Any, _call: Call) -> Never:
        await method(None)
        raise AssertionError("a method that refuses everything has answered")

    return refuse


def _model_of(request: Any) -> str:
    if isinstance(request, ModelInferRequest):
        return str(request.model_name)
    tasks = getattr(request, "tasks", None)
    spec = tasks[0].model_spec if tasks else getattr(request, "model_spec", None)
    return "" if spec is None else str(spec.name)


def _invalid(words: str) -> CallError:
    return CallError(StatusCode.INVALID_ARGUMENT, words)
