"""What one request may ask for, over each protocol."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from contract.wire import tensorflow_serving as wire
from contract.wire.tensors import DATA_TYPES
from serving.server.requests.errors import TooLargeError
from serving.standalone.configuration import ModelConfig
from serving.standalone.limits import Limits

from .conftest import Program, running, version

PREDICTIONS = "/tensorflow.serving.PredictionService/"


def signature_of(*sizes: int, unknown_rank: bool = False) -> Any:
    made = wire.SignatureDef()
    shape = made.inputs["x"].tensor_shape
    shape.unknown_rank = unknown_rank
    for size in sizes:
        shape.dim.add(size=size)
    return made


@pytest.mark.parametrize(
    ("signature", "shape", "is_accepted"),
    [
        (signature_of(-1), (1000,), True),  # rows alone are bounded by the bytes
        (signature_of(-1, 300), (10, 300), True),
        (signature_of(-1, -1), (5, 20), True),
        (signature_of(-1, -1), (5, 21), False),
        (signature_of(-1, -1, -1, 3), (1, 10, 10, 3), True),
        (signature_of(-1, -1, -1, 3), (2, 10, 10, 3), False),
        (signature_of(unknown_rank=True), (101,), False),
        (signature_of(unknown_rank=True), (100,), True),
    ],
)
def test_values_count_where_rows_may_have_any_size(
    signature: Any, shape: tuple[int, ...], is_accepted: bool
) -> None:
    limits = Limits(cells=100)
    words = r"inputs.x: found shape .* at most 100 values are"
    with nullcontext() if is_accepted else pytest.raises(TooLargeError, match=words):
        limits.check_arrays(signature, {"x": np.zeros(shape)})


def refusal(program: Program, socket: Path, method: str, request: Any) -> tuple[Any, str]:
    with (
        grpc.insecure_channel(f"unix:{socket}") as channel,
        pytest.raises(grpc.RpcError) as found,
    ):
        channel.unary_unary(PREDICTIONS + method)(request.SerializeToString(), timeout=60)
    return found.value.code(), found.value.details()


def test_what_is_too_large_is_refused_before_the_model_is_called(tmp_path: Path) -> None:
    folder, socket = version(tmp_path, 1), tmp_path / "socket"
    limits = Limits(examples=4, copied_bytes=1000)
    filled = wire.PredictRequest(model_spec={"name": "m"})
    filled.inputs["x"].dtype = DATA_TYPES["float32"]
    filled.inputs["x"].tensor_shape.dim.add(size=252)  # of four bytes, one of which is sent
    filled.inputs["x"].float_val.append(1.0)
    many = wire.ClassificationRequest(model_spec={"name": "m", "signature_name": "classify"})
    for _ in range(5):
        many.input.example_list.examples.add()
    body = {"signature_name": "classify", "examples": [{"a": 1.0}] * 5}
    with running(limits=limits, rpc={"socket": str(socket)}) as program:
        program.serve(ModelConfig("m", tmp_path))
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        code, words = refusal(program, socket, "Predict", filled)
        assert (code, words[:40]) == (invalid, "inputs: single values stand for 1004 byt")
        code, words = refusal(program, socket, "Classify", many)
        assert (code, words[:33]) == (invalid, "found 5 examples, at most 4 are a")
        status, answer = program.send("POST", "/v1/models/m:classify", body)
        assert (status, answer["error"]) == (400, words)
        assert program.opened[folder].calls == []
        del many.input.example_list.examples[4:]
        with grpc.insecure_channel(f"unix:{socket}") as channel:
            method = channel.unary_unary(PREDICTIONS + "Classify")
            method(many.SerializeToString(), timeout=60)
        assert program.opened[folder].calls == [4]
