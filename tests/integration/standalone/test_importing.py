"""Models from elsewhere become packages: served by a real server, tried, and kept or refused."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from components.package.imported import Import, import_model
from components.package.server_process import running_server
from contract.clients.http import open_client
from contract.errors import DataError, DiskFullError, SlipwayError
from contract.free_ports import free_port
from contract.layout import PipelineLayout
from contract.records.package import PackageManifest
from contract.schema.imported import PackagingConfig
from serving.server.core.spans import NAMES

from .conftest import PATIENCE_SECONDS

SHORT = PackagingConfig.model_validate_json(
    '{"package": {"loadtest": {"seconds": 1.0, "requests": 50, "max_p99_ms": 60000.0}}}'
)


# Its load test asks 16 at a time, so that calls are shared and filled up; the skew check compares.
SHARED = PackagingConfig.model_validate_json(
    '{"package": {"skew_tolerance": 1e-6, "loadtest": {"seconds": 1.0, "requests": 50, '
    '"max_p99_ms": 60000.0}}, "serve": {"enable_batching": true, "max_batch_size": 8, '
    '"allowed_batch_sizes": [2, 8]}}'
)


def imported(
    layout: PipelineLayout,
    path: Path,
    *rows: Any,
    signature: str = "",
    settings: PackagingConfig = SHORT,
) -> Any:
    return import_model(Import(path, rows, signature, settings), layout)


def nothing_is_left(layout: PipelineLayout) -> bool:
    return [one.name for one in layout.versions.iterdir()] == [".numbers"]


def save(path: Path, function: Any, name: str = "serving_default") -> Path:
    module = tf.Module()
    module.function = function
    tf.saved_model.save(module, str(path), signatures={name: function})
    return path


@pytest.fixture
def half(tmp_path: Path) -> PipelineLayout:
    return PipelineLayout(tmp_path / "artifacts", "half")


def test_a_model_of_tensorflow_1_is_kept_with_all_its_signatures(
    half: PipelineLayout, tf1_model: Path
) -> None:
    rows = [{"x": 2.0}, {"x": 5.0}]
    made = imported(half, tf1_model / "00000001", *rows, signature="classify_x_to_y")
    manifest = PackageManifest.read(half.package_manifest(1))
    assert manifest == made.manifest
    assert {name: one.method for name, one in manifest.signatures.items()} == {
        "classify_x_to_y": "classify",
        "regress_x_to_y": "regress",
        "serving_default": "predict",
        "upper": "predict",
    }
    assert manifest.signatures["upper"].inputs["text"].dtype == "string"
    assert made.load.requests > 0
    assert made.load.errors == 0
    assert list(made.load.spans_ms) == list(NAMES)
    assert (half.version(1) / "loadtest.png").read_bytes().startswith(b"\x89PNG")
    assert made.notes == ("no skew check: 'classify_x_to_y' is a signature for classify",)
    # As the agent starts it: by the other protocol, with a label, and warm.
    with running_server(half.version(1), half.root / "log") as server:
        server.wait_until_ready()
        with open_client(f"http://127.0.0.1:{server.port}", PATIENCE_SECONDS) as http:
            answer = http.post("/v1/models/half/labels/stable:predict", json={"instances": [2.0]})
            assert answer.json() == {"predictions": [3.0]}
            assert answer.headers["x-slipway-version"] == "1"
            status = http.get("/v1/models/half").json()["model_version_status"]
            assert [(one["version"], one["state"]) for one in status] == [("1", "AVAILABLE")]
            assert http.get("/healthz").json() == {"status": "serving"}
    assert "warm-up" not in (half.root / "log").read_text()


def test_a_module_with_several_signatures_is_compared_with_tensorflow(
    half: PipelineLayout, tmp_path: Path
) -> None:
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float64, name="x"),
            tf.TensorSpec([None], tf.string, name="name"),
        ]
    )
    def greeted(x: Any, name: Any) -> Any:
        return {"sum": tf.reduce_sum(x, 1), "greeting": tf.strings.join(["hi ", name])}

    rows = [{"x": [1.0, 2.0], "name": "a"}, {"x": [0.5, 0.25], "name": "b"}]
    made = imported(half, save(tmp_path / "m", greeted), *rows, settings=SHARED)
    assert (made.compared_rows, made.notes, made.load.errors) == (2, (), 0)
    inputs = made.manifest.signatures["serving_default"].inputs
    assert (inputs["x"].dtype, inputs["x"].shape) == ("float64", (None, 2))
    file = half.version(1) / "model/assets.extra/tf_serving_warmup_requests"
    records = [bytes(one.numpy()) for one in tf.data.TFRecordDataset(str(file))]
    request = prediction_log_pb2.PredictionLog.FromString(records[1]).predict_log.request
    assert len(records) == 2
    assert tf.make_ndarray(request.inputs["x"]).tolist() == [[0.5, 0.25]]
    assert tf.make_ndarray(request.inputs["name"]).tolist() == [b"b"]
    again = imported(half, half.version(1))  # a package of ours, with its rows; it is warmed up
    assert again.manifest.digest == made.manifest.digest
    assert (again.manifest.version, again.manifest.signatures) == (2, made.manifest.signatures)
    assert again.load.errors == 0


def test_an_imported_package_answers_grpc_with_the_token_only(
    half: PipelineLayout, tmp_path: Path, tf1_model: Path
) -> None:
    imported(half, tf1_model / "00000001")
    token, rest, port = tmp_path / "token", free_port(), free_port()
    token.write_text("secret\n")
    options = ["--package", str(half.version(1)), "--port", str(rest), "--grpc-port", str(port)]
    command = [sys.executable, "-m", "serving.standalone.packaged", *options]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen([*command, "--token-file", str(token)], stdout=log, stderr=log)
    try:
        with open_client(f"http://127.0.0.1:{rest}", PATIENCE_SECONDS) as http:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not is_ready(http):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert http.get("/v1/models/half").status_code == 401
            allowed = {"authorization": "Bearer secret"}
            assert http.get("/v1/models/half", headers=allowed).status_code == 200
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([2.0], np.float32)))
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                stub.Predict(request, PATIENCE_SECONDS)
            answer = stub.Predict(
                request, PATIENCE_SECONDS, metadata=[("authorization", "Bearer secret")]
            )
        assert list(answer.outputs["y"].float_val) == [3.0]
        assert answer.model_spec.version.value == 1
    finally:
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
        log.close()


def is_ready(http: Any) -> bool:
    try:
        return bool(http.get("/healthz").status_code == 200)
    except httpx.TransportError:
        return False


def test_models_that_nobody_can_call_are_refused_and_leave_nothing(
    half: PipelineLayout, tmp_path: Path
) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def turned(x: Any) -> Any:
        return {"wave": tf.complex(x, x)}

    with pytest.raises(DataError, match="output 'wave': found the type complex64, which requests"):
        imported(half, save(tmp_path / "complex", turned))
    tf.saved_model.save(tf.Module(), str(tmp_path / "mute"))
    with pytest.raises(DataError, match="mute: a model without signatures, which nobody can call"):
        imported(half, tmp_path / "mute")
    broken = save(tmp_path / "broken", tf.function(lambda x: {"y": x}, input_signature=[
        tf.TensorSpec([None], tf.float32, name="x")]))  # fmt: skip
    (broken / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(SlipwayError, match="ended with code 2: .*not a SavedModel that loads"):
        imported(half, broken)
    assert nothing_is_left(half)


def test_answers_that_are_not_the_rows_own_are_refused(
    half: PipelineLayout, tmp_path: Path
) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def shared(x: Any) -> Any:
        return {"y": x - tf.reduce_mean(x)}

    model = save(tmp_path / "shared", shared)
    with pytest.raises(DataError, match="row 1: the model answers 0.0 to it alone and -0.5 beside"):
        imported(half, model, 1.0, 2.0)
    with pytest.raises(DataError, match="row 1: signature 'serving_default' .* does not answer: 4"):
        imported(half, model, "text")
    assert nothing_is_left(half)


def test_a_full_disk_keeps_no_part_of_a_version(
    tmp_path: Path, small_disk: Callable[[str], Path]
) -> None:
    model = save(tmp_path / "large", tf.function(lambda x: {"y": x}, input_signature=[
        tf.TensorSpec([None], tf.float32, name="x")]))  # fmt: skip
    (model / "assets" / "words").write_bytes(bytes(2 << 20))
    layout = PipelineLayout(small_disk("1m"), "half")
    with pytest.raises(DiskFullError, match="disk full; nothing was published"):
        imported(layout, model)
    assert nothing_is_left(layout)


@pytest.mark.parametrize(
    ("name", "row", "answer"),
    [
        ("saved_model_half_plus_two_cpu", 2.0, 3.0),
        ("saved_model_half_plus_two_tf2_cpu", 2.0, 3.0),
        ("saved_model_half_plus_two_tflite", 2.0, 3.0),
        ("saved_model_half_plus_two_tflite_with_sigdef", 2.0, 3.0),
    ],
)
def test_models_of_tensorflow_servings_tests_are_packaged(
    half: PipelineLayout, shared_data: Path, name: str, row: float, answer: float
) -> None:
    made = imported(half, shared_data / "tf-serving" / name / "00000123", row)
    assert made.load.errors == 0
    is_lite = "tflite" in name
    assert made.manifest.format == ("litert" if is_lite else "saved_model")
    if not is_lite:
        assert (made.compared_rows, made.notes) == (1, ())
    with running_server(half.version(1), half.root / "log") as server:
        server.wait_until_ready()
        with open_client(server.predict_url, PATIENCE_SECONDS) as http:
            found = http.post(server.predict_url, json={"instances": [row]}).json()
    assert found == {"predictions": [answer]}
