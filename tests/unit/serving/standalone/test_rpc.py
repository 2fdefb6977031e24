"""TensorFlow Serving's gRPC API for any signature."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from contract.errors import ConfigError
from contract.wire import tensorflow_serving as wire
from contract.wire.grpc_services import HealthCheckRequest, HealthCheckResponse
from contract.wire.tensors import array_of, write_tensor
from serving.standalone.configuration import ModelConfig, VersionPolicy
from serving.standalone.inference import Inference
from serving.standalone.monitoring import Monitoring
from serving.standalone.process import Readiness
from serving.standalone.rpc import RpcFront, RpcOptions
from serving.standalone.servables import Loading, Servables

from .conftest import Halving, Program, counted_threads, running, version

PREDICTIONS = "tensorflow.serving.PredictionService"
MODELS = "tensorflow.serving.ModelService"


class Caller:
    """Calls methods by their names."""

    def __init__(self, socket: Path, program: Program, base: Path) -> None:
        self.program, self.base = program, base
        self._channel = grpc.insecure_channel(f"unix:{socket}")

    def __call__(self, method: str, request: Any, answer: Any, service: str = PREDICTIONS) -> Any:
        call = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda one: one.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return call(request, timeout=60)


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    base, socket = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("s") / "s"
    version(base, 1), version(base, 2)
    rpc = {"socket": str(socket), "watched": Readiness(is_ready=True)}
    with running(rpc=rpc, checks=True) as program:
        program.serve(ModelConfig("m", base, VersionPolicy("all")))
        program.wait_for("m", {1: "AVAILABLE", 2: "AVAILABLE"})
        yield Caller(socket, program, base)


def predict(name: str = "m", signature: str = "", **inputs: Any) -> Any:
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    for key, value in inputs.items():
        write_tensor(request.inputs[key], np.asarray(value))
    return request


def examples(count: int, **spec: Any) -> Any:
    request = wire.ClassificationRequest()
    request.model_spec.name = "m"
    for key, value in spec.items():
        setattr(request.model_spec, key, value)
    for _ in range(count):
        one = request.input.example_list.examples.add()
        one.features.feature["x"].float_list.value.append(2.5)
    return request


def test_predict_answers_in_the_field_of_the_type(caller: Caller) -> None:
    request = predict(x=np.array([2.0, 4.0], np.float32))
    answer = caller("Predict", request, wire.PredictResponse)
    assert list(answer.outputs["y"].float_val) == [3.0, 4.0]
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 2, "serving_default")


def test_predict_answers_what_the_filter_names(caller: Caller) -> None:
    request = predict("m", "two", x=np.array([2.0], np.float32), text=np.array([b"a"], object))
    request.output_filter.append("n")
    answer = caller("Predict", request, wire.PredictResponse)
    assert {name: array_of(one, 99).tolist() for name, one in answer.outputs.items()} == {"n": [0]}


def test_what_small_messages_ask_for_is_made_beside_the_loop(caller: Caller) -> None:
    request = predict(x=np.ones(1, np.float32))
    request.inputs["x"].tensor_shape.dim[0].size = 100_000
    several = wire.ClassificationRequest()
    several.model_spec.name, several.model_spec.signature_name = "m", "classify"
    held = several.input.example_list_with_context
    held.context.features.feature["x"].bytes_list.value.append(b"x" * 10_000)
    held.examples.extend([wire.Example()] * 100)
    with counted_threads(caller.program) as threads:
        caller("Predict", predict(x=np.ones(1, np.float32)), wire.PredictResponse)
        caller("Classify", examples(2, signature_name="classify"), wire.ClassificationResponse)
        assert threads.count == 0
        assert (
            len(caller("Predict", request, wire.PredictResponse).outputs["y"].float_val) == 100_000
        )
        assert threads.count == 1
        answer = caller("Classify", several, wire.ClassificationResponse)
        assert (len(answer.result.classifications), threads.count) == (100, 2)


def filtered(*names: str) -> Any:
    request = predict(x=np.zeros(1, np.float32))
    request.output_filter.extend(names)
    return request


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (predict("none"), "NOT_FOUND", "Servable not found for request: Latest(none)"),
        (predict("m", "no"), "FAILED_PRECONDITION", 'Serving signature key "no" not found.'),
        (
            predict(z=np.zeros(1, np.float32)),
            "INVALID_ARGUMENT",
            "input size does not match signature: 1!=1 len({z}) != len({x}). Sent extra: {z}. "
            "Missing but required: {x}.",
        ),
        (predict(x=np.zeros(1, np.int64)), "INVALID_ARGUMENT", "found int64, expected float32"),
        (filtered("z"), "INVALID_ARGUMENT", "output tensor alias not found in signature: z"),
        (filtered("y", "y"), "INVALID_ARGUMENT", "duplicate output tensor alias: y"),
    ],
)
def test_predict_refuses_in_the_real_words(
    caller: Caller, request_: Any, code: str, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        caller("Predict", request_, wire.PredictResponse)
    assert (refusal.value.code().name, message in refusal.value.details()) == (code, True), (
        refusal.value.details()
    )


def test_what_is_no_message_is_refused(caller: Caller) -> None:
    class Broken:
        def SerializeToString(self) -> bytes:  # noqa: N802 (protobuf's name)
            return b"\xff"

    with pytest.raises(grpc.RpcError, match="the message is not a PredictRequest"):
        caller("Predict", Broken(), wire.PredictResponse)


def test_classify_regress_and_both_together_answer_each_example(caller: Caller) -> None:
    size = float(len(examples(1).input.example_list.examples[0].SerializeToString()))
    answer = caller("Classify", examples(2, signature_name="classify"), wire.ClassificationResponse)
    shown = [[(c.label, c.score) for c in one.classes] for one in answer.result.classifications]
    assert shown == [[("odd", size), ("even", size)]] * 2
    answer = caller("Regress", examples(2, signature_name="regress"), wire.RegressionResponse)
    assert [one.value for one in answer.result.regressions] == [size, size]
    request = wire.MultiInferenceRequest()
    for kind in ("regress", "classify"):
        task = request.tasks.add(method_name=f"tensorflow/serving/{kind}")
        task.model_spec.name, task.model_spec.signature_name = "m", kind
    request.input.CopyFrom(examples(1).input)
    regressed, classified = caller("MultiInference", request, wire.MultiInferenceResponse).results
    assert regressed.regression_result.regressions[0].value == size
    assert classified.classification_result.classifications[0].classes[1].label == "even"
    assert (regressed.model_spec.signature_name, regressed.model_spec.version.value) == (
        "regress",
        2,
    )


def tasks(*pairs: tuple[str, str, str]) -> Any:
    request = wire.MultiInferenceRequest()
    for name, signature, method in pairs:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = name, signature
    request.input.CopyFrom(examples(1).input)
    return request


REGRESS = "tensorflow/serving/regress"


@pytest.mark.parametrize(
    ("method", "request_", "code", "message"),
    [
        ("Classify", examples(0, signature_name="classify"), 3, "Input is empty."),
        ("Classify", examples(1, signature_name="no"), 3, "No signature was found with the name"),
        (
            "Classify",
            examples(1, signature_name="regress"),
            3,
            "Expected classification signature method_name to be tensorflow/serving/classify. Was: "
            "tensorflow/serving/regress",
        ),
        ("MultiInference", tasks(), 3, "empty model name"),
        (
            "MultiInference",
            tasks(("m", "regress", REGRESS), ("n", "classify", REGRESS)),
            3,
            "must access the same model name",
        ),
        (
            "MultiInference",
            tasks(("m", "regress", REGRESS), ("m", "regress", REGRESS)),
            3,
            "Duplicate evaluation of signature: regress",
        ),
        (
            "MultiInference",
            tasks(("m", "regress", "tensorflow/serving/predict")),
            12,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
    ],
)
def test_examples_are_refused_in_the_real_words(
    caller: Caller, method: str, request_: Any, code: int, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        caller(method, request_, wire.MultiInferenceResponse)
    assert refusal.value.code().value[0] == code
    assert message in refusal.value.details()


def test_metadata_and_status(caller: Caller) -> None:
    request = wire.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "m"
    answer = caller("GetModelMetadata", request, wire.GetModelMetadataResponse)
    definitions = wire.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(definitions)
    assert definitions.signature_def["regress"].method_name == REGRESS
    status = wire.GetModelStatusRequest()
    status.model_spec.name = "m"
    answer = caller("GetModelStatus", status, wire.GetModelStatusResponse, MODELS)
    assert [(one.version, one.state) for one in answer.model_version_status] == [(2, 30), (1, 30)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [([], "must specify at least one metadata_field"), (["x"], "Metadata field x is not")],
)
def test_metadata_of_nothing_are_refused(caller: Caller, fields: list[str], message: str) -> None:
    request = wire.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "m"
    with pytest.raises(grpc.RpcError, match=message):
        caller("GetModelMetadata", request, wire.GetModelMetadataResponse)


def test_models_are_reloaded_on_request(tmp_path: Path) -> None:
    version(tmp_path / "a", 1), version(tmp_path / "b", 4)
    socket = tmp_path / "s"
    with running(rpc={"socket": str(socket)}) as program:
        program.serve(ModelConfig("a", tmp_path / "a"))
        caller = Caller(socket, program, tmp_path)
        request = wire.ReloadConfigRequest(metric_names=["x"])
        for name in ("a", "b"):
            request.config.model_config_list.config.add(
                name=name, base_path=str(tmp_path / name), model_platform="tensorflow"
            )
        answer = caller("HandleReloadConfigRequest", request, wire.ReloadConfigResponse, MODELS)
        assert answer.status.error_code == 0
        assert [(one.name, one.int64_value_increase) for one in answer.metric] == [("x", 0)]
        found = caller("Predict", predict("b", x=np.zeros(1, np.float32)), wire.PredictResponse)
        assert found.model_spec.version.value == 4
        request.config.model_config_list.config[1].version_labels["stable"] = 9
        words = "Request to assign label to version 9 of model b"
        with pytest.raises(grpc.RpcError, match=words):
            caller("HandleReloadConfigRequest", request, wire.ReloadConfigResponse, MODELS)
        with pytest.raises(grpc.RpcError, match="Only ModelConfigList is currently supported"):
            caller(
                "HandleReloadConfigRequest",
                wire.ReloadConfigRequest(),
                wire.ReloadConfigResponse,
                MODELS,
            )


def test_session_run_is_refused_with_the_reason(caller: Caller) -> None:
    with pytest.raises(grpc.RpcError, match="past the checks of its inputs") as refusal:
        caller(
            "SessionRun",
            predict(),
            wire.PredictResponse,
            "tensorflow.serving.SessionService",
        )
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_health_is_told(caller: Caller) -> None:
    for service in ("", "PredictionService", MODELS):
        answer = caller(
            "Check",
            HealthCheckRequest(service=service),
            HealthCheckResponse,
            "grpc.health.v1.Health",
        )
        assert answer.status == 1


def test_answers_are_content_where_that_is_asked_for(tmp_path: Path) -> None:
    version(tmp_path, 1)
    socket = tmp_path / "s"
    with running(rpc={"socket": str(socket), "answers_content": True}) as program:
        program.serve(ModelConfig("m", tmp_path))
        caller = Caller(socket, program, tmp_path)
        answer = caller("Predict", predict(x=np.zeros(2, np.float32)), wire.PredictResponse)
    tensor = answer.outputs["y"]
    assert tensor.tensor_content == np.ones(2, np.float32).tobytes()
    assert not tensor.float_val


def listen_twice(options: RpcOptions) -> None:
    async def main() -> None:
        servables = Servables(Halving, lambda _: None, Loading())  # type: ignore[arg-type, return-value]
        first = RpcFront(Inference(servables), reload, Monitoring(servables), options)
        await first.start()
        try:
            RpcFront(Inference(servables), reload, Monitoring(servables), options)
        finally:
            await first.stop(0)

    async def reload(_message: Any) -> None:
        raise AssertionError("nobody asked for it")

    asyncio.run(main())


def test_two_servers_do_not_share_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: cannot listen there"):
        listen_twice(RpcOptions("127.0.0.1", port))


def test_a_socket_path_at_a_file_leaves_the_file(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with pytest.raises(ConfigError, match=r"notes\.txt: cannot listen there: found a file that is"):
        listen_twice(RpcOptions("127.0.0.1", None, str(file)))
    assert file.read_text() == "mine"


def test_the_socket_of_a_server_that_was_killed_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.is_socket()
    with running(rpc={"socket": str(path)}) as program:
        caller = Caller(path, program, tmp_path)
        with pytest.raises(grpc.RpcError, match=r"Servable not found for request: Latest\(m\)"):
            caller("Predict", predict(x=np.zeros(1, np.float32)), wire.PredictResponse)
