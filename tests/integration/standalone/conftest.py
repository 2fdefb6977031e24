"""The program as a process, and small models that only TensorFlow's first loader opens whole."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from contract.clients.http import open_client
from contract.free_ports import free_port

PATIENCE_SECONDS = 180.0


def save_tf1(path: Path, addend: float) -> None:
    """Save y = x / 2 + addend with the signatures of TensorFlow 1: from rows, and from examples."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, name="tf_example")
        parsed = v1.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        x = tf.identity(parsed["x"], name="x")
        b = v1.get_variable("b", initializer=tf.constant(addend))
        y = tf.add(x * 0.5, b, name="y")
        names = tf.tile(tf.constant([["half"]]), [tf.shape(y)[0], 1])
        text = v1.placeholder(tf.string, [None], name="text")
        upper = tf.strings.upper(text)
        session.run(v1.global_variables_initializer())
        infos = {
            n: v1.saved_model.build_tensor_info(t)
            for n, t in {"x": x, "y": y, "e": serialized, "n": names, "t": text, "u": upper}.items()
        }
        make, kind = v1.saved_model.build_signature_def, "tensorflow/serving/"
        signatures = {
            "serving_default": make({"x": infos["x"]}, {"y": infos["y"]}, f"{kind}predict"),
            "regress_x_to_y": make({"inputs": infos["e"]}, {"outputs": infos["y"]},
                                   f"{kind}regress"),
            "classify_x_to_y": make({"inputs": infos["e"]},
                                    {"scores": infos["y"], "classes": infos["n"]},
                                    f"{kind}classify"),
            "upper": make({"text": infos["t"]}, {"loud_bytes": infos["u"], "loud": infos["u"]},
                          f"{kind}predict"),
        }  # fmt: skip
        builder = v1.saved_model.builder.SavedModelBuilder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


@dataclass
class Server:
    """A process that serves, and where."""

    process: subprocess.Popen[str]
    log: Path
    socket: Path
    rest: str
    channels: list[Any] = field(default_factory=list)

    @property
    def channel(self) -> Any:
        if not self.channels:
            # It is asked before it is there; gRPC would wait longer and longer to try again.
            often = [("grpc.max_reconnect_backoff_ms", 500)]
            self.channels.append(grpc.insecure_channel(f"unix:{self.socket}", often))
        return self.channels[0]

    @property
    def stub(self) -> Any:
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def send(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        with open_client(self.rest, PATIENCE_SECONDS) as client:
            answer = client.request(method, path, json=body)
        is_json = answer.headers["content-type"] == "application/json"
        return answer.status_code, answer.json() if is_json else answer.text


def is_ready(server: Server) -> bool:
    """Tell whether a Predict on a missing model is answered, as the real program's tests ask."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "intentionally_missing_model"
    try:
        server.stub.Predict(request, 5)
    except grpc.RpcError as error:
        return "Servable" in error.details()
    return False


@contextmanager
def serving(folder: Path, *flags: str, program: Sequence[str] = ()) -> Iterator[Server]:
    folder.mkdir(parents=True, exist_ok=True)
    socket, log, port = folder / "s", folder / "log", free_port()
    command = [*program] or [sys.executable, "-m", "serving.standalone"]
    command += ["--port=0", f"--grpc_socket_path={socket}", f"--rest_api_port={port}"]
    with log.open("w") as written:
        process = subprocess.Popen(
            [*command, "--host=127.0.0.1", *flags], stderr=written, text=True
        )
    server = Server(process, log, socket, f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_ready(server):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield server
    finally:
        for channel in server.channels:
            channel.close()
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0, log.read_text()


@pytest.fixture(scope="session")
def tf1_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base path with version 1."""
    base = tmp_path_factory.mktemp("tf1")
    save_tf1(base / "00000001", 2.0)
    return base
