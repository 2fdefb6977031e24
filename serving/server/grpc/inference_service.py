"""The Open Inference Protocol's service, version 2: what clients of Triton and KServe speak.

Source: github.com/kserve/open-inference-protocol. The signature is chosen by the parameter
`signature_name`. Outputs are raw where the request's inputs are, typed otherwise.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from contract.wire import open_inference as wire
from contract.wire.open_tensors import (
    array_of_contents,
    array_of_raw,
    datatype_of_array,
    raw_of,
    write_contents,
)
from serving.server.core.asked import Asked
from serving.server.core.open_inference import (
    EXTENSIONS,
    PLATFORM,
    SERVER,
    chosen_outputs,
    described,
    signature_of,
    version_of,
)
from serving.server.core.service import PredictService
from serving.server.engines.engine import Outputs
from serving.server.grpc.calls import Call, Calls, Method
from serving.server.requests.errors import SHOWN_CHARACTERS, InvalidInputError, ModelNotFoundError

SERVICE = "inference.GRPCInferenceService"

_RAW_ONLY = ("FP16", "BF16")

Array = np.ndarray[Any, Any]


class InferenceService:
    """The methods of the service, for one version of one model."""

    def __init__(self, service: PredictService, calls: Calls) -> None:
        self._service, self._calls = service, calls

    def methods(self) -> dict[str, Method]:
        """Return the methods by their names."""
        return {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server,
            "ModelMetadata": self._model,
            "ModelInfer": self._infer,
        }

    async def _live(self, _call: Call) -> bytes:
        return bytes(wire.ServerLiveResponse(live=True).SerializeToString())

    async def _ready(self, _call: Call) -> bytes:
        is_ready = self._service.state == "AVAILABLE"
        return bytes(wire.ServerReadyResponse(ready=is_ready).SerializeToString())

    async def _model_ready(self, call: Call) -> bytes:
        request = call.read(wire.ModelReadyRequest)
        is_ready = self._service.state == "AVAILABLE"
        try:
            self._service.find(request.name, version_of(request.version))
        except ModelNotFoundError:
            is_ready = False
        return bytes(wire.ModelReadyResponse(ready=is_ready).SerializeToString())

    async def _server(self, _call: Call) -> bytes:
        name, version = SERVER
        answer = wire.ServerMetadataResponse(name=name, version=version, extensions=EXTENSIONS)
        return bytes(answer.SerializeToString())

    async def _model(self, call: Call) -> bytes:
        request = call.read(wire.ModelMetadataRequest)
        self._service.find(request.name, version_of(request.version))
        own, loaded = self._service.manifest, self._service.ready()
        inputs, outputs = described(loaded, own)
        answer = wire.ModelMetadataResponse(
            name=own.pipeline,
            versions=[str(own.version)],
            platform=PLATFORM,
            inputs=inputs,
            outputs=outputs,
        )
        return bytes(answer.SerializeToString())

    async def _infer(self, call: Call) -> bytes:
        read = partial(self._asked, call)
        request, asked, wanted = await self._calls.beside(len(call.message), read)
        outputs = await self._calls.predicted(call, asked)
        size = sum(outputs[name].nbytes for name in wanted)
        written = partial(self._answer, request, {name: outputs[name] for name in wanted})
        answer = await self._calls.beside(size, written)
        self._service.note_answer(call.caller, asked, outputs)
        return answer

    def _asked(self, call: Call) -> tuple[Any, Asked, list[str]]:
        """Return a request, what it asks for, and the outputs that it wants."""
        request = call.read(wire.ModelInferRequest)
        self._service.find(request.model_name, version_of(request.model_version))
        loaded = self._service.begin()
        signature = signature_of(request.parameters["signature_name"].string_param, loaded)
        known = loaded.signatures[signature].outputs
        wanted = chosen_outputs([one.name for one in request.outputs], known)
        columns = loaded.array_readers[signature].read(arrays_of_inference(request))
        return request, Asked(signature, columns, "inputs"), list(wanted)

    def _answer(self, request: Any, outputs: Outputs) -> bytes:
        own = self._service.manifest
        answer = inference_message(request, own.pipeline, own.version, outputs)
        return bytes(answer.SerializeToString())


def inference_message(request: Any, name: str, version: int, outputs: Outputs) -> Any:
    """Return the ModelInferResponse to a ModelInferRequest: raw where its inputs are.

    Raises:
        ValueError: If the protocol has no type for an output.
    """
    answer = wire.ModelInferResponse(model_name=name, model_version=str(version), id=request.id)
    is_raw = bool(request.raw_input_contents)
    for output, array in outputs.items():
        made = answer.outputs.add(name=output, shape=array.shape)
        made.datatype = datatype_of_array(array)
        if is_raw or made.datatype in _RAW_ONLY:
            answer.raw_output_contents.append(raw_of(array))
        else:
            write_contents(made.contents, array)
    return answer


def arrays_of_inference(request: Any) -> Mapping[str, Array]:
    """Return the arrays of a ModelInferRequest by name.

    Raises:
        InvalidInputError: If one is broken, or there are two of one name.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInputError(
            f"raw_input_contents: found {len(raw)}, expected one for each of {len(request.inputs)} "
            "inputs"
        )
    arrays: dict[str, Array] = {}
    for name, array in _each(request, raw):
        if name in arrays:
            raise InvalidInputError(f"inputs: found '{name[:SHOWN_CHARACTERS]}' twice")
        arrays[name] = array
    return arrays


def _each(request: Any, raw: Any) -> Iterator[tuple[str, Array]]:
    for index, given in enumerate(request.inputs):
        try:
            if raw:
                yield given.name, array_of_raw(given.datatype, given.shape, raw[index])
            else:
                yield given.name, array_of_contents(given.datatype, given.shape, given.contents)
        except ValueError as error:
            raise InvalidInputError(f"inputs.{given.name[:SHOWN_CHARACTERS]}: {error}") from error
