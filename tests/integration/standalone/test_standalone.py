"""The drop-in for tensorflow_model_server, asked by TensorFlow Serving's own stubs."""

import gc
import json
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from serving.standalone.saved_model import SavedModel

from .conftest import PATIENCE_SECONDS, Server, save_tf1, serving

MODELS = """
model_config_list {{
  config {{ name: "tf1" base_path: "{tf1}" model_platform: "tensorflow" }}
  config {{ name: "tf2" base_path: "{tf2}" model_platform: "tensorflow"
           model_version_policy {{ all {{ }} }} }}
}}
"""


CLASSIFY = "classify_x_to_y"


def save_tf2(path: Path) -> None:
    """Save a module whose outputs have no rows, and one input of any shape."""

    class Scaled(tf.Module):
        def __init__(self) -> None:
            self.factor = tf.Variable(6.0)

        @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
        def scaled(self, x: Any) -> Any:
            return {"y": self.factor * x}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="ids")])
        def counted(self, ids: Any) -> Any:
            return {"count": tf.size(ids), "half": tf.cast(ids, tf.float16) / 2}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def numbered(self, text: Any) -> Any:
            return {"number": tf.strings.to_number(text)}

    module = Scaled()
    signatures = {"serving_default": module.scaled, "count": module.counted}
    tf.saved_model.save(module, str(path), {**signatures, "number": module.numbered})


@pytest.fixture(scope="module")
def server(tf1_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    save_tf2(folder / "tf2" / "7")
    config = folder / "models.config"
    config.write_text(MODELS.format(tf1=tf1_model, tf2=folder / "tf2"))
    monitoring = folder / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    with serving(
        folder / "run",
        f"--model_config_file={config}",
        "--model_config_file_poll_wait_seconds=1",
        f"--monitoring_config_file={monitoring}",
    ) as found:
        yield found


def predict(server: Server, name: str, signature: str = "", **inputs: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return server.stub.Predict(request, PATIENCE_SECONDS)


def example(request: Any, signature: str) -> Any:
    request.model_spec.name, request.model_spec.signature_name = "tf1", signature
    one = request.input.example_list.examples.add()
    one.features.feature["x"].float_list.value.append(2.0)
    return request


# --- answers ------------------------------------------------------------------------------------


def test_a_model_of_tensorflow_1_answers_all_its_signatures_by_grpc(server: Server) -> None:
    # A shape that the placeholder does not have: the graph takes it, and so does the real program.
    answer = predict(server, "tf1", x=np.array([2.0], np.float32))
    assert list(answer.outputs["y"].float_val) == [3.0]
    classified = server.stub.Classify(
        example(classification_pb2.ClassificationRequest(), "classify_x_to_y"), PATIENCE_SECONDS
    )
    (one,) = classified.result.classifications[0].classes
    assert (one.label, one.score) == ("half", 3.0)
    regressed = server.stub.Regress(
        example(regression_pb2.RegressionRequest(), "regress_x_to_y"), PATIENCE_SECONDS
    )
    assert [r.value for r in regressed.result.regressions] == [3.0]
    assert regressed.model_spec.version.value == 1


def test_the_same_by_rest(server: Server) -> None:
    assert server.send("POST", "/v1/models/tf1:predict", {"instances": [2.0, 3.0]}) == (
        200,
        {"predictions": [3.0, 3.5]},
    )
    body: Any = {"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}]}
    assert server.send("POST", "/v1/models/tf1:classify", body) == (
        200,
        {"results": [[["half", 3.0]]]},
    )
    body = {"signature_name": "regress_x_to_y", "examples": [{}], "context": {"x": 4.0}}
    assert server.send("POST", "/v1/models/tf1:regress", body) == (200, {"results": [4.0]})
    body = {"signature_name": "upper", "instances": ["abc", {"b64": "eHl6"}]}
    assert server.send("POST", "/v1/models/tf1:predict", body) == (
        200,
        {
            "predictions": [
                {"loud": "ABC", "loud_bytes": {"b64": "QUJD"}},
                {"loud": "XYZ", "loud_bytes": {"b64": "WFla"}},
            ]
        },
    )


def test_outputs_without_rows_and_odd_types_are_answered(server: Server) -> None:
    assert server.send("POST", "/v1/models/tf2:predict", {"inputs": 2.0}) == (
        200,
        {"outputs": 12.0},
    )
    body = {"signature_name": "count", "inputs": [1, 2, 4]}
    assert server.send("POST", "/v1/models/tf2/versions/7:predict", body) == (
        200,
        {"outputs": {"count": 3, "half": [0.5, 1.0, 2.0]}},
    )
    answer = predict(server, "tf2", "count", ids=np.array([3], np.int32))
    assert tf.make_ndarray(answer.outputs["half"]).tolist() == [1.5]


def test_what_the_graph_refuses_is_the_callers_error(server: Server) -> None:
    body = {"signature_name": "regress_x_to_y", "examples": [{"z": 2.0}]}
    status, found = server.send("POST", "/v1/models/tf1:regress", body)
    assert (status, "x" in found["error"]) == (400, True)
    status, found = server.send("POST", "/v1/models/tf2:predict", {"instances": ["a"]})
    assert (status, "is not of expected type: float" in found["error"]) == (400, True)


def test_bytes_that_are_no_text_are_the_callers_error_although_the_graph_quotes_them(
    server: Server,
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        predict(server, "tf2", "number", text=np.array([b"\xff1"], object))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).endswith("could not correctly convert string: \\xff1")


def test_prometheus_is_told(server: Server) -> None:
    predict(server, "tf1", x=np.array([2.0], np.float32))
    status, page = server.send("GET", "/monitoring/prometheus/metrics")
    assert status == 200
    assert ':tensorflow:serving:request_count{model_name="tf1",status="OK"}' in page


# --- versions and files -------------------------------------------------------------------------


def wait_for_answer(server: Server, path: str, expected: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := server.send("POST", path, {"instances": [2.0]})) != expected:
        assert time.monotonic() < deadline, (found, server.log.read_text())
        time.sleep(0.1)


def write_warm_up(folder: Path, request: Any) -> None:
    """Write a Classify as TensorFlow Serving's documentation does."""
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "assets.extra/tf_serving_warmup_requests")) as writer:
        recorded = prediction_log_pb2.ClassifyLog(request=request)
        record = prediction_log_pb2.PredictionLog(classify_log=recorded)
        writer.write(record.SerializeToString())


def test_versions_come_and_go_with_their_folders(tmp_path: Path, tf1_model: Path) -> None:
    base = tmp_path / "models"
    shutil.copytree(tf1_model, base)
    flags = ("--model_name=half", f"--model_base_path={base}")
    with serving(tmp_path / "run", *flags) as server:
        path = "/v1/models/half:predict"
        assert server.send("POST", path, {"instances": [2.0]}) == (200, {"predictions": [3.0]})
        save_tf1(tmp_path / "2", 3.0)
        write_warm_up(tmp_path / "2", example(classification_pb2.ClassificationRequest(), CLASSIFY))
        (tmp_path / "2").rename(base / "2")
        wait_for_answer(server, path, (200, {"predictions": [4.0]}))
        assert f"{base / '2'}: 1 warm-up requests" in server.log.read_text()
        shutil.rmtree(base / "2")
        wait_for_answer(server, path, (200, {"predictions": [3.0]}))


def test_the_config_file_is_read_again_and_a_wrong_one_changes_nothing(
    server: Server, tf1_model: Path
) -> None:
    config = next(server.log.parents[1].glob("models.config"))
    before = config.read_text()
    config.write_text("improperly formatted file")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "the model config was not taken" not in server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert server.send("GET", "/v1/models/tf1")[0] == 200
    config.write_text(before.replace('"tf1"', '"renamed"'))
    wait_for_answer(server, "/v1/models/renamed:predict", (200, {"predictions": [3.0]}))
    gone = {"error": "Servable not found for request: Latest(tf1)"}
    wait_for_answer(server, "/v1/models/tf1:predict", (404, gone))
    config.write_text(before)
    wait_for_answer(server, "/v1/models/tf1:predict", (200, {"predictions": [3.0]}))


def test_batches_answer_each_caller_his_rows(tmp_path: Path, tf1_model: Path) -> None:
    parameters = tmp_path / "batching"
    parameters.write_text("max_batch_size { value: 8 } allowed_batch_sizes: 8")
    with serving(
        tmp_path / "run",
        f"--model_base_path={tf1_model}",
        "--enable_batching",
        f"--batching_parameters_file={parameters}",
    ) as server:
        calls = {}
        for x in range(16):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "default"
            value = np.full((1 + x % 3, 1), x, np.float32)
            request.inputs["x"].CopyFrom(tf.make_tensor_proto(value))
            calls[x] = server.stub.Predict.future(request, PATIENCE_SECONDS)
        found = {x: tf.make_ndarray(call.result().outputs["y"]) for x, call in calls.items()}
    for x, y in found.items():
        assert y.tolist() == [[x / 2 + 2]] * (1 + x % 3)


# --- programs that do not start -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "improperly formatted file",
            "Error parsing text-format tensorflow.serving.ModelServerConfig",
        ),
        (
            'model_config_list { config { name: "a" base_path: "a" model_platform: "tensorflow" }}',
            "INVALID_ARGUMENT: Expected model a to have an absolute path",
        ),
    ],
)
def test_a_bad_config_is_told_and_ends_the_program(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "models.config"
    config.write_text(text)
    link = tmp_path / "tensorflow_model_server"
    link.symlink_to(Path(sys.executable).parent / "slipway")
    command = [str(link), f"--model_config_file={config}"]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert (ended.returncode, message in ended.stderr) == (2, True), ended.stderr


def test_a_model_that_cannot_be_loaded_ends_the_program_after_its_retries(tmp_path: Path) -> None:
    (tmp_path / "models" / "1").mkdir(parents=True)
    command = [
        *(sys.executable, "-m", "serving.standalone", "--port=0"),
        f"--grpc_socket_path={tmp_path / 's'}",
        f"--model_base_path={tmp_path / 'models'}",
        *("--max_num_load_retries=1", "--load_retry_interval_micros=1000"),
    ]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.count("cannot be loaded") == 2
    assert "1 servable(s) did not become available: {Latest(default)" in ended.stderr


# --- TensorFlow Serving's own models -------------------------------------------------------------

SHARED_MODELS = """
model_config_list {{
  config {{ name: "cpu" base_path: "{base}/saved_model_half_plus_two_cpu"
           model_platform: "tensorflow" }}
  config {{ name: "tf2" base_path: "{base}/saved_model_half_plus_two_tf2_cpu"
           model_platform: "tensorflow" }}
  config {{ name: "three" base_path: "{base}/saved_model_half_plus_three"
           model_platform: "tensorflow" }}
  config {{ name: "both" base_path: "{base}/saved_model_half_plus_two_2_versions"
           model_platform: "tensorflow" model_version_policy {{ all {{ }} }}
           version_labels {{ key: "stable" value: 123 }}
           version_labels {{ key: "canary" value: 124 }} }}
  config {{ name: "counter" base_path: "{base}/saved_model_counter"
           model_platform: "tensorflow" }}
  config {{ name: "lite" base_path: "{base}/saved_model_half_plus_two_tflite"
           model_platform: "tensorflow" }}
  config {{ name: "lite_signed" base_path: "{base}/saved_model_half_plus_two_tflite_with_sigdef"
           model_platform: "tensorflow" }}
}}
"""


def test_all_models_of_tensorflow_servings_tests_are_served(
    tmp_path: Path, shared_data: Path
) -> None:
    base = shared_data / "tf-serving"
    config = tmp_path / "models.config"
    config.write_text(SHARED_MODELS.format(base=base))
    with serving(
        tmp_path / "run",
        f"--model_config_file={config}",
        "--prefer_tflite_model",
        "--max_num_load_retries=0",
        "--allow_version_labels_for_unavailable_models",
    ) as server:
        for name, expected in (("cpu", 3.0), ("tf2", 3.0), ("three", 4.0), ("both", 3.0)):
            answer = predict(server, name, x=np.array([[2.0]], np.float32))
            assert list(answer.outputs["y"].float_val) == [expected]
        for name in ("lite", "lite_signed"):
            answer = predict(server, name, x=np.array([2.0], np.float32))
            assert list(answer.outputs["y"].float_val) == [3.0]
        for label in ("stable", "canary"):
            path = f"/v1/models/both/labels/{label}:predict"
            assert server.send("POST", path, {"instances": [2.0]})[0] == 200
        counted = [counter(server, "incr_counter"), counter(server, "incr_counter")]
        assert counted == [1.0, 2.0]
        _, found = server.send("GET", "/v1/models/cpu/metadata")
        found["model_spec"]["name"] = "default"
        expected = json.loads((base / "half_plus_two_model_metadata.json").read_text())
        assert found == expected


def counter(server: Server, signature: str) -> float:
    answer = predict(server, "counter", signature)
    return float(answer.outputs["output"].float_val[0])


def test_a_saved_model_that_is_closed_frees_its_session_at_once(tmp_path: Path) -> None:
    save_tf1(tmp_path / "1", 2.0)
    model = SavedModel(tmp_path / "1", ["serve"], 1, 1)
    gc.disable()
    try:
        x = np.array([[4.0]], np.float32)
        (found,) = model.run({"x:0": x}, ["y:0"])
        assert found.tolist() == [[4.0]]
        session, whole = weakref.ref(model._session), weakref.ref(model)
        model.close()
        assert session() is None
        del model
        assert whole() is None
    finally:
        gc.enable()
