"""The Open Inference Protocol over gRPC, over a real channel."""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from contract.wire import open_inference as wire
from contract.wire.descriptors import message_class

SERVICE = "/inference.GRPCInferenceService/"
BAD = grpc.StatusCode.INVALID_ARGUMENT

Call = Callable[..., Any]


def call_at(port: int) -> Call:
    """Return a function that calls a method and parses its answer."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def call(method: str, request: Any = None) -> Any:
        content = b"" if request is None else request.SerializeToString()
        found = channel.unary_unary(SERVICE + method)(content, timeout=20)
        return message_class(f"inference.{method}Response").FromString(found)

    return call


@pytest.fixture
def call(serve: Any, manifest: Any, engine: Any) -> Iterator[Call]:
    with serve(manifest(), engine, is_grpc=True) as server:
        yield call_at(server.grpc_port)


def asked(*values: float, **changes: Any) -> Any:
    x: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [len(values)]}
    x["contents"] = {"fp32_contents": values}
    return wire.ModelInferRequest(**{"model_name": "doubling", "id": "7", "inputs": [x]} | changes)


def raw(*contents: bytes) -> Any:
    request = asked(1, 2, raw_input_contents=contents)
    request.inputs[0].ClearField("contents")
    return request


def test_infer_answers_typed_contents_by_typed_contents(call) -> None:
    answer = call("ModelInfer", asked(1, 2.5, model_version="7"))
    assert (answer.model_name, answer.model_version, answer.id) == ("doubling", "7", "7")
    (value,) = answer.outputs
    assert (value.name, value.datatype, list(value.shape)) == ("value", "FP32", [2])
    assert list(value.contents.fp32_contents) == [2.0, 5.0]
    assert not answer.raw_output_contents


def test_infer_answers_raw_contents_by_raw_contents(call) -> None:
    answer = call("ModelInfer", raw(struct.pack("<2f", 1, -3)))
    assert [struct.unpack("<2f", one) for one in answer.raw_output_contents] == [(2.0, -6.0)]
    assert not answer.outputs[0].HasField("contents")


def test_health_and_metadata(call) -> None:
    assert call("ServerLive").live
    assert call("ServerReady").ready
    server = call("ServerMetadata")
    assert (server.name, server.version, list(server.extensions)) == (
        *("slipway", "2", ["binary_tensor_data"]),
    )
    model = call("ModelMetadata", wire.ModelMetadataRequest(name="doubling"))
    assert (model.name, list(model.versions)) == ("doubling", ["7"])
    described = [(one.name, one.datatype, list(one.shape)) for one in model.inputs]
    assert described == [("x", "FP32", [-1])]
    assert [one.name for one in model.outputs] == ["value"]


@pytest.mark.parametrize(
    ("name", "version", "is_ready"),
    [("doubling", "", True), ("doubling", "7", True), ("doubling", "8", False), ("x", "", False)],
)
def test_a_model_is_ready_if_it_is_served_here(call, name, version, is_ready) -> None:
    request = wire.ModelReadyRequest(name=name, version=version)
    assert call("ModelReady", request).ready is is_ready


def test_nothing_is_ready_while_the_model_loads(serve, manifest) -> None:
    with serve(manifest(), is_grpc=True) as server:
        call = call_at(server.grpc_port)
        assert call("ServerLive").live
        assert not call("ServerReady").ready
        assert not call("ModelReady", wire.ModelReadyRequest(name="doubling")).ready


def test_another_output_or_twice_an_input_or_half_its_bytes_are_refused(call) -> None:
    twice = asked(1)
    twice.inputs.append(twice.inputs[0])
    for request, code, words in (
        (
            asked(1, outputs=[{"name": "values"}]),
            BAD,
            "outputs: unknown output 'values'; did you mean",
        ),
        (twice, BAD, "inputs: found 'x' twice"),
        (raw(b"1234"), BAD, "inputs.x: found 4 bytes, expected 8 for its shape and type"),
        (raw(b"", b""), BAD, "raw_input_contents: found 2, expected one for each of 1 inputs"),
        (asked(13), BAD, "inputs.x[0] = 13: the model refuses the input: 13 is unlucky"),
        (asked(1, model_version="8"), grpc.StatusCode.NOT_FOUND, "Servable not found for request"),
        (asked(1, model_version="x"), grpc.StatusCode.NOT_FOUND, "version: found 'x', expected a"),
        (
            asked(1, parameters={"signature_name": {"string_param": "no"}}),
            BAD,
            "parameters.signature_name: found 'no', expected one of 'serving_default'",
        ),
    ):
        with pytest.raises(grpc.RpcError) as found:
            call("ModelInfer", request)
        assert (found.value.code(), found.value.details()[: len(words)]) == (code, words)
