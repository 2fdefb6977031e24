"""The Open Inference Protocol over REST, version 2, with the binary tensor extension.

Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md, and
Triton's docs/protocol/extension_binary_data.md: binary data of the inputs stand behind the JSON, in
their order, and the header `Inference-Header-Content-Length` says where the JSON ends.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from contract.records.package import PackageManifest
from contract.wire.open_tensors import (
    array_of_json,
    array_of_raw,
    datatype_of_array,
    json_of,
    raw_of,
)
from serving.server.core.asked import Asked
from serving.server.core.open_inference import (
    EXTENSIONS,
    PLATFORM,
    SERVER,
    chosen_outputs,
    described,
    signature_of,
)
from serving.server.core.service import Loaded, PredictService
from serving.server.engines.engine import Outputs
from serving.server.http.messages import Request
from serving.server.requests.errors import SHOWN_CHARACTERS, InvalidInputError
from serving.server.rest.bodies import Body, Decoded, content_of, json_object

Array = np.ndarray[Any, Any]

LENGTH_HEADER = b"inference-header-content-length"


def open_model_paths(manifest: PackageManifest) -> list[str]:
    """Return the paths under which a version is found."""
    model = f"/v2/models/{manifest.pipeline}"
    return [model, f"{model}/versions/{manifest.version}"]


class PlainAnswer(NamedTuple):
    """What a path answers to GET, whatever is sent."""

    path: str
    name: str  # for metrics
    answer: Callable[[], tuple[int, bytes]]
    is_open: bool = False  # needs no token


def plain_answers(service: PredictService) -> list[PlainAnswer]:
    """Return what is answered about the server and its model."""
    name, version = SERVER
    server = orjson.dumps({"name": name, "version": version, "extensions": EXTENSIONS})

    def ready() -> tuple[int, bytes]:
        is_ready = service.state == "AVAILABLE"
        body = {"name": service.manifest.pipeline, "ready": is_ready}
        return 200 if is_ready else 503, orjson.dumps(body)

    def metadata() -> tuple[int, bytes]:
        return 200, _metadata(service.manifest, service.ready())

    answers = [
        PlainAnswer("/v2", "server_metadata", lambda: (200, server)),
        PlainAnswer("/v2/", "server_metadata", lambda: (200, server)),
        PlainAnswer("/v2/health/live", "live", lambda: (200, b'{"live":true}'), is_open=True),
        PlainAnswer("/v2/health/ready", "ready", ready, is_open=True),
    ]
    for base in open_model_paths(service.manifest):
        answers.append(PlainAnswer(base, "metadata", metadata))
        answers.append(PlainAnswer(f"{base}/ready", "ready", ready))
    return answers


def _metadata(manifest: PackageManifest, loaded: Loaded) -> bytes:
    inputs, outputs = described(loaded, manifest)
    return orjson.dumps(
        {
            "name": manifest.pipeline,
            "versions": [str(manifest.version)],
            "platform": PLATFORM,
            "inputs": inputs,
            "outputs": outputs,
        }
    )


class Inferred(NamedTuple):
    """What an inference request says, in the terms of no model."""

    request_id: Any
    signature_name: Any
    arrays: Mapping[str, Array]
    is_binary: Mapping[str, bool]  # by the outputs that it names
    is_binary_else: bool

    def encoding(self, names: Iterable[str]) -> dict[str, bool]:
        """Return whether each of these outputs is wanted as binary data."""
        return {name: self.is_binary.get(name, self.is_binary_else) for name in names}


def parse_inference(content: bytes, length: bytes | None) -> Inferred:
    """Read the body of an inference request; `length` is the header that says where its JSON ends.

    Raises:
        InvalidInputError: If it is not one, with the place.
        RequestError: If it is not JSON.
    """
    end = _json_end(length, len(content))
    body = json_object(content[:end])
    parameters = _object(body, "parameters")
    arrays = _arrays(_objects(body, "inputs"), memoryview(content)[end:])
    is_binary = parameters.get("binary_data_output") is True
    own = _wanted(body, is_binary)
    return Inferred(body.get("id"), parameters.get("signature_name"), arrays, own, is_binary)


def read_inference(
    manifest: PackageManifest, max_bytes: int, request: Request, loaded: Loaded
) -> Decoded:
    """Read an inference request.

    Raises:
        InvalidInputError: If it is not one, with the place.
        RequestError: If the body is compressed in a way that is not taken, or is not JSON.
    """
    content = content_of(request, max_bytes)
    inferred = parse_inference(content, request.headers.get(LENGTH_HEADER))
    signature = signature_of(inferred.signature_name, loaded)
    asked = Asked(signature, loaded.array_readers[signature].read(inferred.arrays), "inputs")
    known = loaded.signatures[signature].outputs
    wanted = inferred.encoding(chosen_outputs(list(inferred.is_binary), known))

    def formatted(outputs: Outputs) -> Body:
        name, version = manifest.pipeline, manifest.version
        return inference_answer(name, version, inferred.request_id, outputs, wanted)

    return asked, formatted


def _json_end(given: bytes | None, size: int) -> int:
    if given is None:
        return size
    if not given.isdigit() or len(given) > 12 or int(given) > size:
        found = given[:20].decode("latin-1")
        raise InvalidInputError(
            f"Inference-Header-Content-Length: found {found!r}, expected a number up to {size}, "
            "the bytes of the body"
        )
    return int(given)


def _arrays(inputs: list[dict[str, Any]], binary: memoryview) -> Mapping[str, Array]:
    arrays: dict[str, Array] = {}
    place = 0
    for index, given in enumerate(inputs):
        name, datatype, shape = _head(index, given)
        if name in arrays:
            raise InvalidInputError(f"inputs: found '{name[:SHOWN_CHARACTERS]}' twice")
        size = _object(given, "parameters").get("binary_data_size")
        try:
            if size is None:
                arrays[name] = array_of_json(datatype, shape, given.get("data"))
                continue
            if type(size) is not int or not 0 <= size <= len(binary) - place:
                raise ValueError(
                    f"binary_data_size: found {size!r}, {len(binary) - place} are left"
                )
            arrays[name] = array_of_raw(datatype, shape, binary[place : place + size])
        except ValueError as error:
            raise InvalidInputError(f"inputs.{name[:SHOWN_CHARACTERS]}: {error}") from error
        place += size
    if place != len(binary):
        raise InvalidInputError(f"body: found {len(binary) - place} bytes behind the inputs' data")
    return arrays


def _head(index: int, given: dict[str, Any]) -> tuple[str, str, list[int]]:
    name, datatype, shape = (given.get(key) for key in ("name", "datatype", "shape"))
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise InvalidInputError(f"inputs[{index}]: expected the texts 'name' and 'datatype'")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise InvalidInputError(f"inputs[{index}].shape: expected a list of whole numbers")
    return name, datatype, shape


def _wanted(body: dict[str, Any], is_binary: bool) -> dict[str, bool]:
    """Return the outputs that a request names, in order, and whether each as binary data."""
    own: dict[str, bool] = {}
    for index, one in enumerate(_objects(body, "outputs") if "outputs" in body else []):
        if not isinstance(one.get("name"), str):
            raise InvalidInputError(f"outputs[{index}]: expected the text 'name'")
        own[one["name"]] = _object(one, "parameters").get("binary_data", is_binary) is True
    return own


def inference_answer(
    name: str, version: int, request_id: Any, outputs: Outputs, wanted: Mapping[str, bool]
) -> Body:
    """Return the answer of a model: the wanted outputs, each as JSON or as binary data.

    Raises:
        ValueError: If one has a type, or text, that it cannot hold.
    """
    described_outputs, raw = [], []
    for output, is_binary in wanted.items():
        array = outputs[output]
        datatype = datatype_of_array(array)
        one: dict[str, Any] = {"name": output, "datatype": datatype, "shape": list(array.shape)}
        if is_binary:
            raw.append(raw_of(array))
            one["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            one["data"] = json_of(array)
        described_outputs.append(one)
    answer: dict[str, Any] = {"model_name": name, "model_version": str(version)}
    answer["outputs"] = described_outputs
    if isinstance(request_id, str):
        answer["id"] = request_id
    text = orjson.dumps(answer)
    if not raw:
        return Body(text)
    headers = b"content-type: application/octet-stream\r\n%b: %d\r\n" % (LENGTH_HEADER, len(text))
    return Body(b"".join([text, *raw]), headers)


def _object(holder: dict[str, Any], key: str) -> dict[str, Any]:
    found = holder.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidInputError(f"{key}: expected an object")
    return found


def _objects(body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = body.get(key)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InvalidInputError(f"{key}: expected a list of objects")
    return found
