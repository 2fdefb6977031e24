"""A client's calls over TensorFlow Serving's REST API."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from contract.addresses import VERSION_HEADER, served_at
from contract.clients.http import error_of, no_answer, open_client, reason_of
from contract.errors import UserError
from slipway.client.columns import Array, Tensor, array_of_json, json_of
from slipway.client.target import Prediction, Signature, Target

_DTYPES = {"DT_HALF": "float16", "DT_FLOAT": "float32", "DT_DOUBLE": "float64"}
_ADVICE = "see whether the server runs, and whether this is its address"


class RestTransport:
    """See `Transport`."""

    def __init__(self, target: Target) -> None:
        self._model = target.model
        self._path = served_at(target.url, target.model, target.version)
        how = target.connecting
        self._http = open_client(target.url, how.timeout_seconds, target.token, how.trusted)

    def signatures(self) -> Mapping[str, Signature]:
        answer = self._asked("GET", f"{self._path}/metadata")
        found = answer.json()["metadata"]["signature_def"]["signature_def"]
        return {
            name: Signature(_tensors(one["inputs"]), _tensors(one["outputs"]))
            for name, one in found.items()
        }

    def predict(
        self,
        signature: str,
        known: Signature,
        columns: Mapping[str, Array],
        outputs: Sequence[str],
    ) -> Prediction:
        inputs = {name: json_of(array, known.inputs[name]) for name, array in columns.items()}
        body = {"signature_name": signature, "inputs": inputs}
        answer = self._asked("POST", f"{self._path}:predict", body)
        found = answer.json()["outputs"]
        if len(known.outputs) == 1:
            found = {next(iter(known.outputs)): found}
        arrays = {
            name: array_of_json(found[name], known.outputs[name])
            for name in outputs or known.outputs
        }
        return Prediction(arrays, int(answer.headers.get(VERSION_HEADER, "0")))

    def close(self) -> None:
        self._http.close()

    def _asked(self, method: str, path: str, body: Any = None) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise no_answer(path, error, _ADVICE) from error
        except ValueError as error:
            raise UserError(
                f"{self._model}: inputs: JSON has finite numbers only: {error}"
            ) from error
        if answer.is_success:
            return answer
        raise error_of(answer, f"{self._model}: {reason_of(answer)}")


def _tensors(described: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: _tensor(one) for name, one in described.items()}


def _tensor(described: Mapping[str, Any]) -> Tensor:
    dtype = described["dtype"]
    sizes = [int(dim["size"]) for dim in described["tensor_shape"]["dim"]]
    name = _DTYPES.get(dtype, dtype.removeprefix("DT_").lower())
    return Tensor(name, tuple(None if size < 0 else size for size in sizes))
