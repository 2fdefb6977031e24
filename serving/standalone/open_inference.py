"""The Open Inference Protocol, version 2, for all models of the process, in no transport's terms.

`rest` and `rpc` read and write its messages; the signature is chosen by `signature_name`, as in
`serving.server`.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import orjson

from contract.wire import open_inference as wire
from contract.wire.open_tensors import datatype_of
from contract.wire.tensorflow_serving import ModelSpec
from contract.wire.tensors import DATA_TYPES
from serving.server.core.open_inference import EXTENSIONS, PLATFORM, SERVER, version_of
from serving.server.grpc.inference_service import arrays_of_inference, inference_message
from serving.server.grpc.statuses import CallError
from serving.server.http.messages import Request
from serving.server.requests.errors import InvalidInputError, ServingError
from serving.server.rest.bodies import Body, content_of
from serving.server.rest.open_inference import (
    LENGTH_HEADER,
    Inferred,
    inference_answer,
    parse_inference,
)
from serving.standalone.calls import Call
from serving.standalone.inference import Array, Asked, Inference, predict_signature

_NAMES = {number: name for name, number in DATA_TYPES.items()}
_LARGE_BYTES = 256 * 1024  # above it, reading takes longer than other callers should wait


def spec_of(name: str, version: str, signature: str = "") -> Any:
    """Return what TensorFlow Serving's API calls the same model.

    Raises:
        ModelNotFoundError: If the version is not a number.
    """
    spec = ModelSpec(name=name, signature_name=signature)
    if (number := version_of(version)) is not None:
        spec.version.value = number
    return spec


class OpenInference:
    """Answers the protocol's requests. Belongs to the loop of its `Inference`."""

    def __init__(self, inference: Inference, is_ready: Callable[[], bool]) -> None:
        """`is_ready` tells whether the process answers predictions."""
        self._inference, self._is_ready = inference, is_ready

    # --- REST -----------------------------------------------------------------------------------

    async def infer(self, request: Request, spec: Any, call: Call, max_bytes: int) -> Body:
        """Answer a body with what its model predicts.

        Raises:
            CallError, ServingError, RequestError: If that cannot be had.
        """
        reading = partial(_parsed, request, max_bytes)
        inferred = await asyncio.to_thread(reading) if _is_large(request) else reading()
        if not isinstance(inferred.signature_name, str | None):
            raise InvalidInputError("parameters.signature_name: expected text")
        spec.signature_name = inferred.signature_name or ""
        wanted = list(inferred.is_binary)
        asked = Asked(spec, lambda _signature: inferred.arrays, wanted)
        answered = await self._inference.predict(asked, call)
        encoding = inferred.encoding(answered.found)
        with _as_refusals():
            _check_json({n: a for n, a in answered.found.items() if not encoding[n]})
            return inference_answer(
                spec.name, answered.version, inferred.request_id, answered.found, encoding
            )

    def plain(self, path: str) -> tuple[int, bytes] | None:
        """Return the answer to GET for what is not about one model; None for other paths."""
        if path == "/health/live":
            return 200, b'{"live":true}'
        if path == "/health/ready":
            is_ready = self._is_ready()
            return 200 if is_ready else 503, orjson.dumps({"ready": is_ready})
        if path in ("", "/"):
            name, version = SERVER
            told = {"name": name, "version": version, "extensions": EXTENSIONS}
            return 200, orjson.dumps(told)
        return None

    def ready(self, spec: Any) -> bytes:
        """Return that a model is ready.

        Raises:
            CallError: If it is not.
        """
        with self._inference.servables.use(spec):
            return orjson.dumps({"name": spec.name, "ready": True})

    def metadata(self, spec: Any) -> dict[str, Any]:
        """Return what a model takes and answers by a signature, the default one unless named.

        Raises:
            CallError, InvalidInputError: If it is not served, or has a type the protocol lacks.
        """
        with self._inference.servables.use(spec) as version:
            assert version.opened is not None
            signature = predict_signature(version.opened.signatures, spec)
            numbers = [version.number]
            if not spec.HasField("version"):
                known = self._inference.servables.status(spec)
                numbers = sorted(one.number for one in known if one.state == "AVAILABLE")
        return {
            "name": spec.name,
            "versions": [str(number) for number in numbers],
            "platform": PLATFORM,
            "inputs": _described(signature.inputs),
            "outputs": _described(signature.outputs),
        }

    # --- gRPC -----------------------------------------------------------------------------------

    def methods(self) -> dict[str, tuple[Any, Any]]:
        """Return for each method the class of its requests, and what answers one."""
        return {
            "ServerLive": (wire.ServerLiveRequest, self._live),
            "ServerReady": (wire.ServerReadyRequest, self._ready),
            "ModelReady": (wire.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (wire.ServerMetadataRequest, self._server),
            "ModelMetadata": (wire.ModelMetadataRequest, self._model),
            "ModelInfer": (wire.ModelInferRequest, self._infer),
        }

    async def _live(self, _request: Any, _call: Call) -> Any:
        return wire.ServerLiveResponse(live=True)

    async def _ready(self, _request: Any, _call: Call) -> Any:
        return wire.ServerReadyResponse(ready=self._is_ready())

    async def _model_ready(self, request: Any, _call: Call) -> Any:
        try:
            self.ready(spec_of(request.name, request.version))
        except (CallError, ServingError):
            return wire.ModelReadyResponse(ready=False)
        return wire.ModelReadyResponse(ready=True)

    async def _server(self, _request: Any, _call: Call) -> Any:
        name, version = SERVER
        return wire.ServerMetadataResponse(name=name, version=version, extensions=EXTENSIONS)

    async def _model(self, request: Any, _call: Call) -> Any:
        found = self.metadata(spec_of(request.name, request.version))
        return wire.ModelMetadataResponse(**found)

    async def _infer(self, request: Any, call: Call) -> Any:
        signature = request.parameters["signature_name"].string_param
        spec = spec_of(request.model_name, request.model_version, signature)
        wanted = [one.name for one in request.outputs]

        def read(_signature: Any) -> Mapping[str, Array]:
            return arrays_of_inference(request)

        is_large = request.ByteSize() > _LARGE_BYTES
        answered = await self._inference.predict(Asked(spec, read, wanted, is_large), call)
        with _as_refusals():
            return inference_message(request, spec.name, answered.version, answered.found)


def _parsed(request: Request, max_bytes: int) -> Inferred:
    content = content_of(request, max_bytes)
    return parse_inference(content, request.headers.get(LENGTH_HEADER))


def _is_large(request: Request) -> bool:
    is_compressed = bool(request.headers.get(b"content-encoding"))
    return is_compressed or len(request.body) > _LARGE_BYTES


def _check_json(outputs: Mapping[str, Array]) -> None:
    """Refuse what JSON cannot hold, and the protocol has no words for."""
    for name, array in outputs.items():
        is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
        if is_float and not np.isfinite(array).all():
            raise ValueError(f"'{name}' has NaN or infinity; ask for it as binary data")


def _described(tensors: Mapping[str, Any]) -> list[dict[str, Any]]:
    with _as_refusals():
        return [
            {
                "name": name,
                "datatype": datatype_of(_NAMES.get(info.dtype, str(info.dtype))),
                "shape": _shape(info.tensor_shape),
            }
            for name, info in sorted(tensors.items())
        ]


def _shape(shape: Any) -> Sequence[int]:
    """Return sizes, -1 for any; empty where even their number may be any."""
    return [] if shape.unknown_rank else [int(axis.size) for axis in shape.dim]


@contextmanager
def _as_refusals() -> Iterator[None]:
    """Turn what the protocol cannot hold into an answer to the caller."""
    try:
        yield
    except ValueError as error:
        raise InvalidInputError(f"outputs: {error}") from error
