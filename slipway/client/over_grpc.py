"""A client's calls over TensorFlow Serving's gRPC API."""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from grpc import StatusCode

from contract.errors import NotFoundError, ServiceUnavailableError, SlipwayError, UserError
from contract.wire import tensorflow_serving as wire
from contract.wire.tensors import DATA_TYPES, array_of, tensor_of
from slipway.client.columns import Array, Tensor
from slipway.client.target import Prediction, Signature, Target

_SERVICE = "/tensorflow.serving.PredictionService/"
_MOST_BYTES = 1 << 31  # of one array of an answer
_NAMES = {number: name for name, number in DATA_TYPES.items()}
_CALLERS = frozenset(
    (
        *(StatusCode.INVALID_ARGUMENT, StatusCode.FAILED_PRECONDITION, StatusCode.OUT_OF_RANGE),
        *(StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED, StatusCode.UNIMPLEMENTED),
    )
)


class GrpcTransport:
    """See `Transport`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._channel = _channel(target)
        self._metadata = _metadata(target)

    def signatures(self) -> Mapping[str, Signature]:
        request = wire.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=[wire.SIGNATURE_FIELD]
        )
        answer = self._asked("GetModelMetadata", request, wire.GetModelMetadataResponse)
        found = wire.SignatureDefMap()
        answer.metadata[wire.SIGNATURE_FIELD].Unpack(found)
        return {
            name: Signature(_tensors(one.inputs), _tensors(one.outputs))
            for name, one in found.signature_def.items()
        }

    def predict(
        self,
        signature: str,
        known: Signature,  # noqa: ARG002 (the answer says what it is)
        columns: Mapping[str, Array],
        outputs: Sequence[str],
    ) -> Prediction:
        request = wire.PredictRequest(model_spec=self._spec(), output_filter=outputs)
        request.model_spec.signature_name = signature
        for name, array in columns.items():
            request.inputs[name].CopyFrom(tensor_of(array))
        answer = self._asked("Predict", request, wire.PredictResponse)
        arrays = {name: array_of(one, _MOST_BYTES) for name, one in answer.outputs.items()}
        return Prediction(arrays, answer.model_spec.version.value)

    def close(self) -> None:
        self._channel.close()

    def _spec(self) -> Any:
        spec = wire.PredictRequest().model_spec
        spec.name = self._target.model
        if self._target.version is not None:
            spec.version.value = self._target.version
        return spec

    def _asked(self, method: str, request: Any, kind: Any) -> Any:
        call = self._channel.unary_unary(_SERVICE + method)
        try:
            content = call(
                request.SerializeToString(),
                timeout=self._target.connecting.timeout_seconds,
                metadata=self._metadata,
            )
        except grpc.RpcError as error:
            raise _error_of(error, self._target) from error
        return kind.FromString(content)


def _channel(target: Target) -> grpc.Channel:
    options = [("grpc.max_receive_message_length", -1)]
    scheme, _, rest = target.url.partition(":")
    if scheme == "unix":
        return grpc.insecure_channel(target.url, options)
    address = rest.removeprefix("//")
    if scheme == "grpc":
        return grpc.insecure_channel(address, options)
    file = target.connecting.trusted
    trusted = None if file is None else file.read_bytes()
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted), options)


def _error_of(error: Any, target: Target) -> SlipwayError:
    code, words = error.code(), error.details()
    if code is StatusCode.NOT_FOUND:
        return NotFoundError(f"{target.model}: {words}")
    if code in _CALLERS:
        return UserError(f"{target.model}: {words}")
    return ServiceUnavailableError(f"{target.url}: {code.name}: {words}")


def _tensors(described: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: Tensor(
            _NAMES.get(one.dtype, ""),
            tuple(None if dim.size < 0 else dim.size for dim in one.tensor_shape.dim),
        )
        for name, one in described.items()
    }


def _metadata(target: Target) -> list[tuple[str, str]]:
    """Return what goes with each call; a proxy cannot read the model's name in the message."""
    made = [("x-slipway-model", target.model)]
    if target.version is not None:
        made.append(("x-slipway-version", str(target.version)))
    if target.token:
        made.append(("authorization", f"Bearer {target.token}"))
    return made
