"""TensorFlow Serving's ModelService, and the parts of its API that this server refuses.

Source: tensorflow_serving/apis/model_service.proto, session_service.proto.
"""

from typing import Never

from grpc import StatusCode

from contract.wire import tensorflow_serving as wire
from serving.server.core.service import PredictService
from serving.server.grpc.calls import Call, Method
from serving.server.grpc.statuses import CallError
from serving.server.requests.errors import InvalidInputError

SERVICE = "tensorflow.serving.ModelService"
SESSION_SERVICE = "tensorflow.serving.SessionService"

_STATES = {"LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40}


class ModelService:
    """The methods of the service, for one version of one model."""

    def __init__(self, service: PredictService) -> None:
        self._service = service

    def methods(self) -> dict[str, Method]:
        """Return the methods by their names."""
        return {"GetModelStatus": self._status, "HandleReloadConfigRequest": _reload}

    async def _status(self, call: Call) -> bytes:
        spec = call.read(wire.GetModelStatusRequest).model_spec
        if not spec.name:
            raise InvalidInputError("model_spec.name: missing")
        version = spec.version.value if spec.HasField("version") else None
        self._service.find(spec.name, version, spec.version_label)
        answer = wire.GetModelStatusResponse()
        status = answer.model_version_status.add()
        status.version = self._service.manifest.version
        status.state = _STATES[self._service.state]
        status.status.SetInParent()
        return bytes(answer.SerializeToString())


def session_methods() -> dict[str, Method]:
    """Return the methods of SessionService."""
    return {"SessionRun": _session_run}


async def _reload(_call: Call) -> Never:
    raise CallError(
        StatusCode.UNIMPLEMENTED,
        "this server serves one version of one model, which the traffic plan names; deploy another "
        "version with 'slipway deploy', 'slipway promote' or 'slipway rollback'",
    )


async def _session_run(_call: Call) -> Never:
    raise CallError(
        StatusCode.UNIMPLEMENTED,
        "SessionRun calls any tensor of a graph, past the checks of its inputs; call Predict with "
        "a signature",
    )
