"""The gRPC API as callers meet it: every answer and every refusal, over a real channel."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2

from contract.prediction_log.reading import predictions_of, read_tables
from contract.records.package import InputSpec
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.wire import tensorflow_serving as wire
from contract.wire.descriptors import message_class
from contract.wire.grpc_services import HealthCheckRequest, HealthCheckResponse
from contract.wire.tensors import array_of, tensor_of

SERVING = "tensorflow.serving."
PREDICTION, MODEL = f"/{SERVING}PredictionService/", f"/{SERVING}ModelService/"


def serving_class(name: str) -> Any:
    return message_class(SERVING + name)


class Client:
    """Calls a server's methods by their paths."""

    def __init__(self, port: int, token: str = "") -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.metadata = [("authorization", f"Bearer {token}")] if token else []

    def call(self, path: str, request: Any, answer: Any, **options: Any) -> Any:
        """Return the answer and the call."""
        content = request if isinstance(request, bytes) else request.SerializeToString()
        given = [*self.metadata, *options.pop("metadata", [])]
        method = self.channel.unary_unary(path)
        found, call = method.with_call(content, metadata=given, **{"timeout": 20, **options})
        return answer.FromString(found), call

    def predict(self, *values: float, **options: Any) -> Any:
        return self.call(PREDICTION + "Predict", asked(*values), wire.PredictResponse, **options)

    def refused(self, path: str, request: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as found:
            self.call(path, request, wire.PredictResponse, **options)
        return found.value.code(), found.value.details()


def asked(*values: float, **changes: Any) -> Any:
    """Return a PredictRequest for rows of `x`."""
    request = wire.PredictRequest(**changes)
    request.model_spec.name = request.model_spec.name or "doubling"
    request.inputs["x"].CopyFrom(tensor_of(np.array(values, np.float32)))
    return request


def examples(*values: float) -> Any:
    return serving_class("ExampleList")(examples=[example(value) for value in values])


def example(value: float | None) -> Any:
    made = wire.Example()
    if value is not None:
        made.features.feature["x"].float_list.value.append(value)
    return made


@pytest.fixture
def client(serve: Any, manifest: Any, engine: Any) -> Iterator[Client]:
    with serve(manifest(), engine, is_grpc=True) as server:
        yield Client(server.grpc_port)


# --- what works ---------------------------------------------------------------------------------


def test_predict_answers_rows_in_order_and_says_who_answered(client) -> None:
    answer, call = client.predict(1, 2.5, -3, metadata=[("x-request-id", "abc")])
    assert list(answer.outputs["value"].float_val) == [2.0, 5.0, -6.0]
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == (
        *("doubling", 7, "serving_default"),
    )
    trailing = dict(call.trailing_metadata())
    assert trailing == {"x-request-id": "abc", "x-slipway-version": "7"}


def test_predict_takes_its_version_its_label_and_a_signature(client) -> None:
    for spec in ({"version": {"value": 7}}, {"version_label": "stable"}):
        request = asked(4, model_spec={"name": "doubling", **spec})
        request.model_spec.signature_name = "serving_default"
        answer, _ = client.call(PREDICTION + "Predict", request, wire.PredictResponse)
        assert array_of(answer.outputs["value"], 1000).tolist() == [8.0]


def test_an_output_filter_chooses_outputs(client) -> None:
    request = asked(4, output_filter=["value", "value"])
    answer, _ = client.call(PREDICTION + "Predict", request, wire.PredictResponse)
    assert list(answer.outputs) == ["value"]
    wrong = asked(4, output_filter=["values"])
    assert client.refused(PREDICTION + "Predict", wrong) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "output_filter: unknown output 'values'; did you mean 'value'?",
    )


def test_regress_takes_examples_and_those_of_a_shared_context(client) -> None:
    request = serving_class("RegressionRequest")(model_spec={"name": "doubling"})
    request.input.example_list.CopyFrom(examples(5, 1))
    answer, _ = client.call(PREDICTION + "Regress", request, wire.RegressionResponse)
    assert [one.value for one in answer.result.regressions] == [10.0, 2.0]
    shared = request.input.example_list_with_context
    shared.context.CopyFrom(example(5))
    shared.examples.extend([example(None), example(1)])
    answer, _ = client.call(PREDICTION + "Regress", request, wire.RegressionResponse)
    assert [one.value for one in answer.result.regressions] == [10.0, 2.0]


def test_a_context_that_would_be_copied_to_gigabytes_is_refused(client) -> None:
    request = serving_class("RegressionRequest")(model_spec={"name": "doubling"})
    shared = request.input.example_list_with_context
    shared.context.features.feature["x"].float_list.value.extend([1.0] * 50_000)
    shared.examples.extend([example(None)] * 1_000)
    code, words = client.refused(PREDICTION + "Regress", request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "found 1,000 examples with a context of" in words


def test_inputs_that_single_values_would_fill_to_gigabytes_are_refused(client) -> None:
    request = asked(1)
    for name in "abcde":  # 16 MiB may be sent; each of these is less, but not all of them
        request.inputs[name].CopyFrom(request.inputs["x"])
        request.inputs[name].tensor_shape.dim[0].size = 1 << 20
    assert client.refused(PREDICTION + "Predict", request) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "inputs: single values stand for more than 16,777,216 bytes of the tensors; send several "
        "requests",
    )


class Sorting:
    """An engine of two heads: twice `x`, and two scores that add up to 1."""

    def __init__(self, doubling: Any) -> None:
        self.doubling, self.signatures = doubling, doubling.signatures

    def call(self, signature: str, columns: Any) -> dict[str, Any]:
        value = self.doubling.call(signature, columns)["value"]
        x = columns["x"]
        return {"price_value": value, "sort_scores": np.stack([x, 1 - x], axis=1)}


SORTING = {
    "price": HeadConfig(task="regression"),
    "sort": HeadConfig(task="binary_classification", classes=("no", "yes")),
}


def test_classify_and_multi_inference_name_classes_in_one_call(serve, manifest, engine) -> None:
    with serve(manifest(heads=SORTING), Sorting(engine), is_grpc=True) as server:
        client = Client(server.grpc_port)
        request = serving_class("ClassificationRequest")(model_spec={"name": "doubling"})
        request.input.example_list.CopyFrom(examples(0.25))
        answer, _ = client.call(PREDICTION + "Classify", request, wire.ClassificationResponse)
        (classified,) = answer.result.classifications
        assert [(c.label, c.score) for c in classified.classes] == [("no", 0.25), ("yes", 0.75)]
        both = serving_class("MultiInferenceRequest")()
        both.input.example_list.CopyFrom(examples(0.25, 0.5))
        for method in ("classify", "regress"):
            task = both.tasks.add(method_name=f"tensorflow/serving/{method}")
            task.model_spec.name = "doubling"
        answer, _ = client.call(PREDICTION + "MultiInference", both, wire.MultiInferenceResponse)
    first, second = answer.results
    rows = first.classification_result.classifications
    assert [[c.score for c in row.classes] for row in rows] == [[0.25, 0.75], [0.5, 0.5]]
    assert [one.value for one in second.regression_result.regressions] == [0.5, 1.0]
    assert engine.batches == [1, 2]


def test_metadata_describes_the_signatures(client) -> None:
    request = serving_class("GetModelMetadataRequest")(
        model_spec={"name": "doubling"}, metadata_field=["signature_def"]
    )
    path = PREDICTION + "GetModelMetadata"
    answer, _ = client.call(path, request, wire.GetModelMetadataResponse)
    found = wire.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    signature = found.signature_def["serving_default"]
    x = signature.inputs["x"]
    assert (x.name, x.dtype, [dim.size for dim in x.tensor_shape.dim]) == ("x:0", 1, [-1])
    assert list(signature.outputs) == ["value"]
    assert signature.method_name == "tensorflow/serving/predict"


def test_the_status_follows_the_model(serve, manifest, engine) -> None:
    request = serving_class("GetModelStatusRequest")(model_spec={"name": "doubling"})
    path = MODEL + "GetModelStatus"
    states = []
    with serve(manifest(), is_grpc=True) as server:
        client = Client(server.grpc_port)
        answer, _ = client.call(path, request, wire.GetModelStatusResponse)
        states += [one.state for one in answer.model_version_status]
        assert client.refused(PREDICTION + "Predict", asked(1)) == (
            grpc.StatusCode.UNAVAILABLE,
            "the model is still loading; try again",
        )
    with serve(manifest(), engine, is_grpc=True) as server:
        client = Client(server.grpc_port)
        for is_draining in (False, True):
            server.service.is_draining = is_draining
            answer, _ = client.call(path, request, wire.GetModelStatusResponse)
            (status,) = answer.model_version_status
            assert status.version == 7
            states.append(status.state)
    assert states == [20, 30, 40]  # LOADING, AVAILABLE, UNLOADING


def test_only_a_server_that_loads_tells_the_proxy_to_try_again(serve, manifest, engine) -> None:
    def trailing(server: Any, *values: float) -> dict[str, str]:
        with pytest.raises(grpc.RpcError) as refused:
            Client(server.grpc_port).predict(*values)
        return dict(refused.value.trailing_metadata())

    with serve(manifest(), is_grpc=True) as server:
        assert trailing(server, 1.0)["x-slipway-loading"] == "1"
    with serve(manifest(), engine, is_grpc=True) as server:
        assert "x-slipway-loading" not in trailing(server, float("nan"))


def test_rows_of_different_length_are_padded_by_their_callers(serve, manifest, engine) -> None:
    inputs = {
        "x": InputSpec(dtype="float32", default=1.5),
        "items": InputSpec(dtype="int64", is_variable_length=True),
    }
    request = wire.PredictRequest(model_spec={"name": "doubling"})
    padded = np.array([[1, 2], [3, -(2**63)]], np.int64)
    request.inputs["items"].CopyFrom(tensor_of(padded))
    with serve(manifest(inputs=inputs), engine, is_grpc=True) as server:
        answer, _ = Client(server.grpc_port).call(
            PREDICTION + "Predict", request, wire.PredictResponse
        )
    assert list(answer.outputs["value"].float_val) == [3.0, 3.0]


# --- what is refused ----------------------------------------------------------------------------

BAD = grpc.StatusCode.INVALID_ARGUMENT


def without_a_name() -> Any:
    request = asked(1)
    request.model_spec.name = ""
    return request


def with_bytes(content: bytes) -> Any:
    request = asked(1)
    request.inputs["x"].ClearField("float_val")
    request.inputs["x"].tensor_content = content
    return request


@pytest.mark.parametrize(
    ("request_of", "code", "words"),
    [
        (lambda: b"\xff\xff", BAD, "the message is not a PredictRequest"),
        (without_a_name, BAD, "model_spec.name: missing; expected 'doubling'"),
        (
            lambda: asked(1, model_spec={"name": "other"}),
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Latest(other); this server has version 7",
        ),
        (
            lambda: asked(1, model_spec={"name": "doubling", "version": {"value": 8}}),
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Specific(doubling, 8)",
        ),
        (
            lambda: asked(1, model_spec={"name": "doubling", "signature_name": "nothing"}),
            BAD,
            "signature_name: found 'nothing', expected one of 'serving_default'",
        ),
        (lambda: asked(), BAD, "inputs: found 0 rows, expected at least one"),
        (lambda: with_bytes(b"123"), BAD, "inputs.x: tensor_content has 3 bytes, expected 4"),
        (lambda: asked(1, 13), BAD, "inputs.x[1] = 13: the model refuses the input: 13 is unlucky"),
        (lambda: asked(1e30), BAD, "inputs.x[0] = 1e+30: the model has no finite 'value'"),
        (lambda: asked(float("nan")), BAD, "inputs.x[0]: found nan, expected a finite number"),
    ],
)
def test_a_prediction_that_is_the_callers_fault(client, request_of, code, words) -> None:
    found, details = client.refused(PREDICTION + "Predict", request_of())
    assert (found, details[: len(words)]) == (code, words)


def test_a_broken_model_is_internal_and_not_the_callers_fault(client, engine) -> None:
    engine.is_dead = True
    assert client.refused(PREDICTION + "Predict", asked(1)) == (
        grpc.StatusCode.INTERNAL,
        "the model failed: out of memory",
    )


@pytest.mark.parametrize(
    ("method", "kind", "fields", "words"),
    [
        ("Classify", "ClassificationRequest", {}, ":classify: 'doubling' has no such head"),
        ("Regress", "RegressionRequest", {}, "input: found no examples, expected at least one"),
        (
            "Regress",
            "RegressionRequest",
            {"input": {"example_list": {"examples": [example(None)]}}},
            "input: x: required, but not in the tf.Example",
        ),
        (
            "GetModelMetadata",
            "GetModelMetadataRequest",
            {"metadata_field": ["assets"]},
            "metadata_field: found ['assets'], expected ['signature_def']",
        ),
    ],
)
def test_other_methods_say_what_they_expected(client, method, kind, fields, words) -> None:
    request = serving_class(kind)(model_spec={"name": "doubling"}, **fields)
    assert client.refused(PREDICTION + method, request) == (BAD, words)


def test_multi_inference_names_the_task_that_is_wrong(client) -> None:
    path, kind = PREDICTION + "MultiInference", serving_class("MultiInferenceRequest")
    assert client.refused(path, kind()) == (BAD, "tasks: found none, expected at least one")
    task = {"model_spec": {"name": "doubling"}, "method_name": "guess"}
    code, words = client.refused(path, kind(tasks=[task]))
    assert (code, words[:37]) == (BAD, "tasks[0].method_name: found 'guess', ")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"/{SERVING}SessionService/SessionRun", "SessionRun calls any tensor of a graph"),
        (MODEL + "HandleReloadConfigRequest", "this server serves one version of one model"),
        (MODEL + "Nothing", "Method not found!"),
    ],
)
def test_what_this_server_does_not_do_is_unimplemented(client, path, words) -> None:
    code, details = client.refused(path, b"")
    assert (code, details[: len(words)]) == (grpc.StatusCode.UNIMPLEMENTED, words)


def test_a_token_is_asked_for_but_not_for_health(serve, manifest, engine) -> None:
    with serve(manifest(), engine, token="s3cret", is_grpc=True) as server:
        for token in ("", "wrong"):
            code, words = Client(server.grpc_port, token).refused(PREDICTION + "Predict", asked(1))
            assert code is grpc.StatusCode.UNAUTHENTICATED
            assert "authorization: Bearer <token>" in words
        answer, _ = Client(server.grpc_port, "s3cret").predict(1)
        assert list(answer.outputs["value"].float_val) == [2.0]
        assert health(Client(server.grpc_port)) == 1
        code, _ = refused_reflection(Client(server.grpc_port))
        assert code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_above_the_limit_is_refused_also_when_compressed(
    serve, manifest, engine, compression
) -> None:
    small = manifest(serve=ServeConfig(max_body_mb=0.01))
    with serve(small, engine, is_grpc=True) as server:
        channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", compression=compression)
        client = Client(server.grpc_port)
        client.channel = channel
        code, words = client.refused(PREDICTION + "Predict", asked(*[0.0] * 4000))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "message larger than max" in words
        assert list(client.predict(1)[0].outputs["value"].float_val) == [2.0]
    assert engine.batches == [1]


def test_more_rows_than_a_request_may_have_are_refused(serve, manifest, engine) -> None:
    small = manifest(serve=ServeConfig(max_batch_size=2, max_enqueued_batches=2))
    with serve(small, engine, is_grpc=True) as server:
        client = Client(server.grpc_port)
        code, words = client.refused(PREDICTION + "Predict", asked(*range(5)))
        request = serving_class("RegressionRequest")(model_spec={"name": "doubling"})
        request.input.example_list.CopyFrom(examples(*range(5)))
        refused = client.refused(PREDICTION + "Regress", request)
    assert (code, words[:34]) == (BAD, "inputs: found 5 rows, at most 4 ar")
    assert (refused[0], refused[1][:37]) == (BAD, "input: found 5 examples, at most 4 ar")


def test_a_full_queue_is_unavailable(serve, manifest, slow_engine) -> None:
    small = manifest(serve=ServeConfig(max_batch_size=1, max_enqueued_batches=1))
    codes: list[grpc.StatusCode | None] = []
    with serve(small, slow_engine, is_grpc=True) as server:

        def call() -> None:
            try:
                Client(server.grpc_port).predict(1)
                codes.append(None)
            except grpc.RpcError as error:
                codes.append(error.code())

        in_threads(call, 6)
    assert grpc.StatusCode.UNAVAILABLE in codes
    assert set(codes) == {grpc.StatusCode.UNAVAILABLE, None}


def in_threads(call: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_what_cannot_be_in_time_costs_no_call_of_the_model(serve, manifest, slow_engine) -> None:
    with serve(manifest(), slow_engine, is_grpc=True) as server:
        client = Client(server.grpc_port)
        busy = threading.Thread(target=client.predict, args=[1])
        busy.start()
        time.sleep(0.05)  # the model is at work for 0.2 s
        code, _ = client.refused(PREDICTION + "Predict", asked(2), timeout=0.05)
        busy.join()
        client.predict(3)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert slow_engine.batches == [1, 1]


# --- metrics, log, health, reflection -----------------------------------------------------------


def test_calls_are_counted_by_method_and_code(serve, manifest, engine) -> None:
    with serve(manifest(), engine, is_grpc=True) as server:
        client = Client(server.grpc_port)
        client.predict(1)
        client.refused(PREDICTION + "Predict", asked(13))
        text = server.send("GET", "/metrics")[2].decode()
    assert 'slipway_requests_total{code="OK",method="grpc_Predict"} 1.0' in text
    assert 'slipway_requests_total{code="INVALID_ARGUMENT",method="grpc_Predict"} 1.0' in text


def test_predictions_are_logged_as_those_of_rest_are(serve, manifest, engine, tmp_path) -> None:
    with serve(manifest(), engine, predictions=tmp_path, is_grpc=True) as server:
        client = Client(server.grpc_port)
        client.predict(1, 2, metadata=[("x-request-id", "r1"), ("x-slipway-arm", "canary")])
        client.refused(PREDICTION + "Predict", asked(13), metadata=[("x-request-id", "r2")])
    rows = [one for table in read_tables(tmp_path) for one in predictions_of(table)]
    found = {(r.request_id, r.row, r.arm, r.status): r.predicted for r in rows}
    assert found == {
        ("r1", 0, "canary", 200): {"twice": 2.0},
        ("r1", 1, "canary", 200): {"twice": 4.0},
        ("r2", 0, "", 400): {},
    }


def health(client: Client, service: str = "") -> int:
    request = HealthCheckRequest(service=service)
    answer, _ = client.call("/grpc.health.v1.Health/Check", request, HealthCheckResponse)
    return int(answer.status)


def test_health_follows_the_server(serve, manifest, engine) -> None:
    with serve(manifest(), is_grpc=True) as server:
        assert health(Client(server.grpc_port)) == 2
    with serve(manifest(), engine, is_grpc=True) as server:
        client = Client(server.grpc_port)
        assert health(client, f"{SERVING}PredictionService") == 1
        watching = client.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=10)
        states = [HealthCheckResponse.FromString(next(watching)).status]
        server.service.is_draining = True
        states.append(HealthCheckResponse.FromString(next(watching)).status)
        assert states == [1, 2]
        assert list(watching) == []  # it ends: the drain would wait for it
        assert health(client) == 2
        request = HealthCheckRequest(service="nobody")
        code, _ = client.refused("/grpc.health.v1.Health/Check", request)
        assert code is grpc.StatusCode.NOT_FOUND


def test_watchers_of_the_health_cannot_take_all_calls(client, monkeypatch) -> None:
    monkeypatch.setattr("serving.server.grpc.health._MAX_WATCHERS", 1)
    watch = client.channel.unary_stream("/grpc.health.v1.Health/Watch")
    first = watch(b"", timeout=10)
    next(first)
    with pytest.raises(grpc.RpcError) as found:
        next(watch(b"", timeout=10))
    assert found.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    first.cancel()


def reflected(client: Client, package: str, **asked_for: str) -> Any:
    request = message_class(f"{package}.ServerReflectionRequest")(**asked_for)
    method = client.channel.stream_stream(f"/{package}.ServerReflection/ServerReflectionInfo")
    (answer,) = method(iter([request.SerializeToString()]), timeout=10)
    return message_class(f"{package}.ServerReflectionResponse").FromString(answer)


def refused_reflection(client: Client) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as found:
        reflected(client, "grpc.reflection.v1", list_services="")
    return found.value.code(), found.value.details()


@pytest.mark.parametrize("package", ["grpc.reflection.v1", "grpc.reflection.v1alpha"])
def test_reflection_describes_services_and_messages(client, package) -> None:
    listed = reflected(client, package, list_services="").list_services_response.service
    names = [one.name for one in listed]
    assert {f"{SERVING}PredictionService", "grpc.health.v1.Health"} < set(names)
    symbol = f"{SERVING}PredictRequest"
    answer = reflected(client, package, file_containing_symbol=symbol)
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(content)
        for content in answer.file_descriptor_response.file_descriptor_proto
    ]
    assert symbol in {f"{file.package}.{one.name}" for file in files for one in file.message_type}
    assert {name for file in files for name in file.dependency} <= {file.name for file in files}
    unknown = reflected(client, package, file_containing_symbol="no.Thing").error_response
    assert unknown.error_code == grpc.StatusCode.NOT_FOUND.value[0]
