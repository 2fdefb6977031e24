"""The Open Inference Protocol for any model, over REST and gRPC."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest

from contract.wire import open_inference as wire
from serving.standalone.configuration import ModelConfig
from serving.standalone.open_inference import _check_json

from .conftest import Program, running, version

MODEL = "/v2/models/m"
X = {"name": "x", "datatype": "FP32", "shape": [2]}
TWO = {**X, "data": [2.0, 4.0]}


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / "s"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, socket: Path) -> Iterator[Program]:
    base = tmp_path_factory.mktemp("models")
    version(base, 1)
    with running(rpc={"socket": str(socket)}) as made:
        made.serve(ModelConfig("m", base))
        yield made


def called(socket: Path, method: str, request: Any, answer: Any) -> Any:
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        return answer.FromString(call(request.SerializeToString(), timeout=60))


def infer_request(array: np.ndarray, *, is_raw: bool, **more: Any) -> Any:
    request = wire.ModelInferRequest(model_name="m", **more)
    given = request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    if is_raw:
        request.raw_input_contents.append(array.tobytes())
    else:
        given.contents.fp32_contents.extend(array.tolist())
    return request


def test_json_and_binary_answer_alike(program: Program) -> None:
    status, answer = program.send("POST", f"{MODEL}/infer", {"id": "a", "inputs": [TWO]})
    (output,) = answer.pop("outputs")
    assert (status, answer) == (200, {"model_name": "m", "model_version": "1", "id": "a"})
    assert output == {"name": "y", "datatype": "FP32", "shape": [2], "data": [2.0, 3.0]}

    head = json.dumps(
        {
            "inputs": [{**X, "parameters": {"binary_data_size": 8}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    body = head + np.array([2.0, 4.0], np.float32).tobytes()
    connection = http.client.HTTPConnection("127.0.0.1", program.rest_port, timeout=60)
    length = {"Inference-Header-Content-Length": str(len(head))}
    connection.request("POST", f"{MODEL}/versions/1/infer", body, length)
    found = connection.getresponse()
    raw, end = found.read(), int(found.headers["Inference-Header-Content-Length"])
    connection.close()
    assert json.loads(raw[:end])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(raw[end:], np.float32).tolist() == [2.0, 3.0]


@pytest.mark.parametrize("is_raw", [True, False])
def test_grpc_answers_raw_where_it_is_asked_so(
    program: Program, socket: Path, is_raw: bool
) -> None:
    request = infer_request(np.array([2.0, 4.0], np.float32), is_raw=is_raw, id="b")
    answer = called(socket, "ModelInfer", request, wire.ModelInferResponse)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "b")
    (output,) = answer.outputs
    values = output.contents.fp32_contents
    if is_raw:
        values = np.frombuffer(answer.raw_output_contents[0], np.float32)
    assert (output.name, list(values)) == ("y", [2.0, 3.0])


def test_the_signature_and_the_outputs_are_chosen(program: Program) -> None:
    text = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
    body = {
        "inputs": [TWO, text],
        "parameters": {"signature_name": "two"},
        "outputs": [{"name": "n"}],
    }
    status, answer = program.send("POST", f"{MODEL}/infer", body)
    assert (status, answer["outputs"]) == (
        200,
        [{"name": "n", "datatype": "INT64", "shape": [2], "data": [0, 1]}],
    )


def test_the_server_and_its_models_describe_themselves(program: Program, socket: Path) -> None:
    assert program.send("GET", "/v2/health/live") == (200, {"live": True})
    assert program.send("GET", "/v2/health/ready") == (200, {"ready": True})
    assert program.send("GET", "/v2")[1]["extensions"] == ["binary_tensor_data"]
    assert program.send("GET", f"{MODEL}/ready") == (200, {"name": "m", "ready": True})
    told = {
        "name": "m",
        "versions": ["1"],
        "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
    }
    assert program.send("GET", MODEL) == (200, told)
    request = wire.ModelMetadataRequest(name="m")
    answer = called(socket, "ModelMetadata", request, wire.ModelMetadataResponse)
    assert answer == wire.ModelMetadataResponse(**told)
    for name, is_ready in (("m", True), ("none", False)):
        request = wire.ModelReadyRequest(name=name)
        assert called(socket, "ModelReady", request, wire.ModelReadyResponse).ready is is_ready


@pytest.mark.filterwarnings("ignore:overflow")  # the program ignores it, too
@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v2/models/none/infer", {"inputs": [TWO]}, 404, "Servable not found"),
        (f"{MODEL}/versions/9/infer", {"inputs": [TWO]}, 404, "Specific(m, 9)"),
        (f"{MODEL}/versions/last/infer", {"inputs": [TWO]}, 404, "expected a number"),
        (f"{MODEL}/infer", {"inputs": [{**TWO, "data": [1.0]}]}, 400, "found 1 values, expected 2"),
        (f"{MODEL}/infer", {"inputs": [{**TWO, "datatype": "FP64"}]}, 400, "found float64"),
        (f"{MODEL}/infer", {"inputs": [TWO], "outputs": [{"name": "z"}]}, 400, "output tensor"),
        (f"{MODEL}/infer", {"inputs": [TWO], "parameters": {"signature_name": 1}}, 400, "text"),
        (f"{MODEL}/infer", {"inputs": [{**TWO, "data": [1e38, 3.4e39]}]}, 400, "ask for it as"),
        (f"{MODEL}/infer", b"[", 400, ""),
    ],
)
def test_what_is_wrong_is_the_callers_error(
    program: Program, path: str, body: Any, status: int, words: str
) -> None:
    found, answer = program.send("POST", path, body)
    assert (found, words in answer["error"]) == (status, True), answer


def test_a_bfloat16_that_json_cannot_hold_is_refused_as_others_are() -> None:
    _check_json({"y": np.array([1.0, 3.0], ml_dtypes.bfloat16)})
    for dtype in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16):
        with pytest.raises(ValueError, match="'y' has NaN or infinity"):
            _check_json({"y": np.array([1.0, float("nan")], dtype)})
