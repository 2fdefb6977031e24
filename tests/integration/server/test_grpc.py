"""TensorFlow Serving's own client against our server, and our messages against its messages."""

import signal
import subprocess
import sys
import threading
import time
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import Default
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,  # noqa: F401 (its messages are compared)
    prediction_service_pb2_grpc,
    regression_pb2,
    session_service_pb2,
)

from contract.wire import open_inference, tensorflow_serving  # noqa: F401 (they fill the pool)
from contract.wire.descriptors import POOL
from contract.wire.tensors import DATA_TYPES
from slipway.client import Client

PREDICT = "/v1/models/digits:predict"
BAD = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def rows() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(200, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def stub(digits_server):
    channel = grpc.insecure_channel(f"127.0.0.1:{digits_server.grpc_port}")
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def asked(rows: Any, **spec: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "digits"
    for name, value in spec.items():
        setattr(request.model_spec, name, value)
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(rows))
    return request


def as_example(row: Any) -> Any:
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=row))
    return tf.train.Example(features=tf.train.Features(feature={"image": feature}))


# --- messages -----------------------------------------------------------------------------------

OURS = [
    POOL.FindFileByName(name)
    for name in (
        "tensorflow/framework.proto",
        "tensorflow_serving/apis.proto",
        "tensorflow_serving/config.proto",
    )
]


def fields_of(message: Descriptor) -> dict[str, tuple[Any, ...]]:
    """Return what the wire and callers see of each field."""

    def kind(field: FieldDescriptor) -> str | int:
        named = field.message_type or field.enum_type
        return named.full_name if named is not None else field.type

    return {
        field.name: (
            *(field.number, field.is_repeated, kind(field)),
            field.containing_oneof.name if field.containing_oneof else None,
        )
        for field in message.fields
    }


@pytest.mark.parametrize(
    "name",
    sorted(message.full_name for file in OURS for message in file.message_types_by_name.values()),
)
def test_our_messages_are_those_of_the_public_interface(name: str) -> None:
    ours = fields_of(POOL.FindMessageTypeByName(name))
    theirs = fields_of(Default().FindMessageTypeByName(name))
    assert ours == {field: found for field, found in theirs.items() if field in ours}


@pytest.mark.parametrize(
    "name",
    ["tensorflow.DataType", "tensorflow.error.Code", "tensorflow.serving.ModelVersionStatus.State"],
)
def test_our_numbers_are_those_of_the_public_interface(name: str) -> None:
    ours = {v.name: v.number for v in POOL.FindEnumTypeByName(name).values}
    theirs = {v.name: v.number for v in Default().FindEnumTypeByName(name).values}
    assert ours.items() <= theirs.items()


def test_data_types_are_tensorflows() -> None:
    assert {name: tf.as_dtype(name).as_datatype_enum for name in DATA_TYPES} == dict(DATA_TYPES)


class Recorder:
    """A channel that notes which methods a stub would call, and what it expects of them."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}

    def unary_unary(self, path: str, response_deserializer: Any, **_: Any) -> None:
        self.answers[path] = response_deserializer.__self__.DESCRIPTOR.full_name


def test_the_methods_are_those_of_the_public_interface() -> None:
    theirs = Recorder()
    prediction_service_pb2_grpc.PredictionServiceStub(theirs)
    model_service_pb2_grpc.ModelServiceStub(theirs)
    ours = {
        f"/{service.full_name}/{method.name}": method.output_type.full_name
        for name in ("PredictionService", "ModelService")
        for service in [POOL.FindServiceByName(f"tensorflow.serving.{name}")]
        for method in service.methods
    }
    assert theirs.answers == ours


# --- answers ------------------------------------------------------------------------------------


def test_predict_answers_what_rest_answers(digits_server, stub, rows) -> None:
    answer = stub.Predict(asked(rows), timeout=60)
    expected = digits_server.send(PREDICT, {"instances": rows.tolist()})[1]["predictions"]
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["scores"]), expected, atol=1e-6)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("digits", 3)


def test_serving_examples_takes_serialized_examples(digits_server, stub, rows) -> None:
    request = asked(rows[:2], signature_name="serving_examples")
    del request.inputs["image"]
    texts = [as_example(row).SerializeToString() for row in rows[:2]]
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto(texts))
    answer = stub.Predict(request, timeout=60)
    expected = digits_server.send(PREDICT, {"instances": rows[:2].tolist()})[1]["predictions"]
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["scores"]), expected, atol=1e-6)


def test_classify_and_multi_inference_answer_what_rest_answers(digits_server, stub, rows) -> None:
    body = {"examples": [{"image": row.tolist()} for row in rows[:2]]}
    expected = digits_server.send("/v1/models/digits:classify", body)[1]["results"]
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "digits"
    request.input.example_list.examples.extend(as_example(row) for row in rows[:2])
    several = inference_pb2.MultiInferenceRequest()
    several.input.CopyFrom(request.input)
    several.tasks.add(method_name="tensorflow/serving/classify").model_spec.name = "digits"
    alone = stub.Classify(request, timeout=60).result
    together = stub.MultiInference(several, timeout=60).results[0].classification_result
    for result in (alone, together):
        found = [[(c.label, c.score) for c in row.classes] for row in result.classifications]
        assert [[label for label, _ in row] for row in found] == [
            [label for label, _ in row] for row in expected
        ]
        np.testing.assert_allclose(
            [[score for _, score in row] for row in found],
            [[score for _, score in row] for row in expected],
            atol=1e-6,
        )


def test_metadata_and_status(digits_server, stub) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "digits"
    request.metadata_field.append("signature_def")
    answer = stub.GetModelMetadata(request, timeout=60)
    found = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(found)
    image = found.signature_def["serving_default"].inputs["image"]
    assert (image.dtype, [dim.size for dim in image.tensor_shape.dim]) == (1, [-1, 64])
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "digits"
    (version,) = models(digits_server).GetModelStatus(status, timeout=60).model_version_status
    assert (version.version, version.state) == (3, version.AVAILABLE)


def models(server: Any) -> Any:
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
    return model_service_pb2_grpc.ModelServiceStub(channel)


def test_what_is_refused_says_why(digits_server, stub, rows) -> None:
    regression = regression_pb2.RegressionRequest()
    regression.model_spec.name = "digits"
    missing = asked(rows)
    missing.model_spec.name = "missing"
    session = grpc.insecure_channel(f"127.0.0.1:{digits_server.grpc_port}").unary_unary(
        "/tensorflow.serving.SessionService/SessionRun",
        session_service_pb2.SessionRunRequest.SerializeToString,
    )
    reload = models(digits_server).HandleReloadConfigRequest
    for call, request, code, words in (
        (stub.Predict, missing, grpc.StatusCode.NOT_FOUND, "Servable not found for request"),
        (stub.Predict, asked(rows[:, :3]), BAD, "expected float32 of shape [rows, 64]"),
        (stub.Regress, regression, BAD, ":regress: 'digits' has no such head"),
        (session, session_service_pb2.SessionRunRequest(), UNIMPLEMENTED, "call Predict"),
        (reload, model_management_pb2.ReloadConfigRequest(), UNIMPLEMENTED, "one version of one"),
    ):
        with pytest.raises(grpc.RpcError) as found:
            call(request, timeout=60)
        assert found.value.code() is code
        assert words in found.value.details()


UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


def test_the_open_inference_protocol_answers_what_rest_answers(digits_server, rows) -> None:
    expected = digits_server.send(PREDICT, {"instances": rows.tolist()})[1]["predictions"]
    image = {"name": "image", "datatype": "FP32", "shape": list(rows.shape)}
    body = {"inputs": [{**image, "data": rows.ravel().tolist()}]}
    (by_rest,) = digits_server.send("/v2/models/digits/infer", body)[1]["outputs"]
    found = np.array(by_rest["data"]).reshape(by_rest["shape"])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    request = open_inference.ModelInferRequest(model_name="digits", inputs=[image])
    request.raw_input_contents.append(rows.tobytes())
    method = grpc.insecure_channel(f"127.0.0.1:{digits_server.grpc_port}").unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        response_deserializer=open_inference.ModelInferResponse.FromString,
    )
    answer = method(request.SerializeToString(), timeout=60)
    scores = np.frombuffer(answer.raw_output_contents[0], np.float32)
    np.testing.assert_allclose(scores.reshape(answer.outputs[0].shape), expected, atol=1e-6)


def test_our_client_answers_alike_over_rest_grpc_and_a_unix_socket(digits_server, rows) -> None:
    socket = digits_server.log.parent / "grpc.sock"
    grpc_url = f"grpc://127.0.0.1:{digits_server.grpc_port}"
    found = []
    for url in (digits_server.url, grpc_url, f"unix:{socket}"):
        with Client(url, "digits") as digits:
            answer = digits.predict({"image": rows.astype(np.float64)})
            assert answer.version == 3
            found.append(answer.outputs["scores"])
    expected = digits_server.send(PREDICT, {"instances": rows.tolist()})[1]["predictions"]
    for scores in found:
        np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_our_client_does_not_import_tensorflow() -> None:
    code = "import sys, slipway.client.over_grpc, slipway.client.rest; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    modules = {name.partition(".")[0] for name in loaded.stdout.split()}
    assert not modules & {"tensorflow", "tensorflow_serving", "pandas", "pyarrow", "keras"}


def test_concurrent_callers_get_their_own_answers_at_a_unix_socket(digits_server, rows) -> None:
    expected = digits_server.send(PREDICT, {"instances": rows.tolist()})[1]["predictions"]
    channel = grpc.insecure_channel(f"unix:{digits_server.log.parent / 'grpc.sock'}")
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    calls = [stub.Predict.future(asked(row[None]), timeout=60) for row in rows]
    found = [tf.make_ndarray(call.result().outputs["scores"])[0] for call in calls]
    np.testing.assert_allclose(found, expected, atol=1e-6)


# --- draining -----------------------------------------------------------------------------------


def wait_for_more(calls: list[grpc.StatusCode | None]) -> None:
    """Wait for a hundred calls more, or for one that failed."""
    before, deadline = len(calls), time.monotonic() + 120
    while len(calls) < before + 100 and not any(calls):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_draining_under_load_loses_no_call(digits_package, launch, rows) -> None:
    server = launch("--package", digits_package, "--port", 0, "--grpc-port", 0)
    server.wait_ready()
    codes: list[grpc.StatusCode | None] = []
    is_over = threading.Event()

    def call() -> None:
        channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        while not is_over.is_set():
            try:
                stub.Predict(asked(rows[:1]), timeout=60)
                codes.append(None)
            except grpc.RpcError as error:
                codes.append(error.code())
                return

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    wait_for_more(codes)
    server.process.send_signal(signal.SIGTERM)
    while server.send("/healthz")[0] == 200:
        time.sleep(0.01)
    wait_for_more(codes)  # it still answers
    is_over.set()
    for caller in callers:
        caller.join(60)
    assert server.process.wait(60) == 0
    assert set(codes) == {None}
    assert "drained: 0 requests cut off" in server.log.read_text()
