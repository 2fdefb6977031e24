"""Large messages are read and written beside the event loop, small ones on it."""

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from contract.schema.serving import ServeConfig
from contract.wire import open_inference
from contract.wire import tensorflow_serving as wire
from contract.wire.descriptors import message_class
from contract.wire.tensors import array_of, tensor_of

# 280,000 bytes of float32; twenty thousand tf.Examples of 17 bytes are more than that.
ROWS, EXAMPLES = 70_000, 20_000
FIRST = 1000  # the engine does not like some smaller numbers
PREDICTIONS = "tensorflow.serving.PredictionService"


class Witness:
    """Reads as the reader does, and notes in which thread."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.threads: list[str] = []

    def read(self, arrays: Any) -> Any:
        self.threads.append(threading.current_thread().name)
        return self._reader.read(arrays)


@pytest.fixture
def served(serve: Any, manifest: Any, engine: Any) -> Iterator[tuple[Any, Witness]]:
    wide = ServeConfig(max_batch_size=1 << 17)
    with serve(manifest(serve=wide), engine, is_grpc=True) as server:
        loaded = server.service.loaded
        witness = Witness(loaded.array_readers["serving_default"])
        readers = {**loaded.array_readers, "serving_default": witness}
        server.service.loaded = dataclasses.replace(loaded, array_readers=readers)
        channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")

        def call(service: str, method: str, request: Any, answer: Any) -> Any:
            content = channel.unary_unary(f"/{service}/{method}")(
                request.SerializeToString(), timeout=60
            )
            return answer.FromString(content)

        yield call, witness
        channel.close()


def values(rows: int) -> Any:
    return np.arange(FIRST, FIRST + rows, dtype=np.float32)


def predict(rows: int) -> Any:
    request = wire.PredictRequest()
    request.model_spec.name = "doubling"
    request.inputs["x"].CopyFrom(tensor_of(values(rows)))
    return request


def infer(rows: int) -> Any:
    x = {"name": "x", "datatype": "FP32", "shape": [rows]}
    content = values(rows).tobytes()
    return open_inference.ModelInferRequest(
        model_name="doubling", inputs=[x], raw_input_contents=[content]
    )


def regress(rows: int) -> Any:
    request = wire.RegressionRequest()
    request.model_spec.name = "doubling"
    for value in values(rows):
        one = request.input.example_list.examples.add()
        one.features.feature["x"].float_list.value.append(value)
    return request


def test_a_large_predict_is_read_in_a_thread_and_answered_whole(served) -> None:
    call, witness = served
    answer = call(PREDICTIONS, "Predict", predict(ROWS), wire.PredictResponse)
    expected = 2 * values(ROWS)
    np.testing.assert_array_equal(array_of(answer.outputs["value"], 1 << 20), expected)
    assert [name.startswith("decoder") for name in witness.threads] == [True]


def test_a_large_infer_is_read_in_a_thread_and_answered_whole(served) -> None:
    call, witness = served
    kind = message_class("inference.ModelInferResponse")
    answer = call("inference.GRPCInferenceService", "ModelInfer", infer(ROWS), kind)
    found = np.frombuffer(answer.raw_output_contents[0], np.float32)
    np.testing.assert_array_equal(found, 2 * values(ROWS))
    assert [name.startswith("decoder") for name in witness.threads] == [True]


def test_large_lists_of_examples_are_read_in_a_thread(served) -> None:
    call, witness = served
    answer = call(PREDICTIONS, "Regress", regress(EXAMPLES), wire.RegressionResponse)
    assert [one.value for one in answer.result.regressions[-2:]] == [41996.0, 41998.0]
    several = wire.MultiInferenceRequest(input=regress(EXAMPLES).input)
    task = several.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name = "doubling"
    found = call(PREDICTIONS, "MultiInference", several, wire.MultiInferenceResponse)
    assert found.results[0].regression_result.regressions[-1].value == 41998.0
    assert [name.startswith("decoder") for name in witness.threads] == [True, True]


def test_what_a_small_message_becomes_is_made_in_a_thread_if_it_is_large(served) -> None:
    call, witness = served
    request = predict(1)
    request.inputs["x"].tensor_shape.dim[0].size = ROWS
    answer = call(PREDICTIONS, "Predict", request, wire.PredictResponse)
    np.testing.assert_array_equal(array_of(answer.outputs["value"], 1 << 20), [2.0 * FIRST] * ROWS)
    spread = regress(100)
    context = wire.Example()
    context.features.feature["other"].bytes_list.value.append(b"x" * 4000)
    spread.input.example_list_with_context.examples.extend(regress(100).input.example_list.examples)
    spread.input.example_list_with_context.context.CopyFrom(context)
    found = call(PREDICTIONS, "Regress", spread, wire.RegressionResponse)
    assert found.result.regressions[-1].value == 2198.0
    several = wire.MultiInferenceRequest(input=spread.input)
    several.tasks.add(method_name="tensorflow/serving/regress").model_spec.name = "doubling"
    call(PREDICTIONS, "MultiInference", several, wire.MultiInferenceResponse)
    assert [name.startswith("decoder") for name in witness.threads] == [True] * 3


def test_a_large_message_that_is_none_is_refused(served) -> None:
    call, _ = served

    class Broken:
        def SerializeToString(self) -> bytes:  # noqa: N802 (protobuf's name)
            return b"\xff" * 300_000

    with pytest.raises(grpc.RpcError, match="the message is not a PredictRequest") as refusal:
        call(PREDICTIONS, "Predict", Broken(), wire.PredictResponse)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_small_messages_are_read_at_once(served) -> None:
    call, witness = served
    call(PREDICTIONS, "Predict", predict(2), wire.PredictResponse)
    call(PREDICTIONS, "Regress", regress(2), wire.RegressionResponse)
    assert not any(name.startswith("decoder") for name in witness.threads)
    assert len(witness.threads) == 2
