"""A model that answers the same two scores to all, its package, and a caller of gRPC."""

from collections import Counter
from pathlib import Path

import grpc
import psutil
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from contract.storage import digest_directory

BODY = {"instances": [{"x": 1.0}, {"x": 2.0}]}


def save_model(folder: Path, logits: tuple[float, float]) -> None:
    """Save a model that answers the same two scores for every row."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serving_default(x: tf.Tensor) -> dict[str, tf.Tensor]:
        row = tf.nn.softmax(tf.constant([logits]))
        return {"scores": tf.repeat(row, tf.shape(x)[0], axis=0)}

    module.serving_default = serving_default
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serving_default})


def add_package(stack, version: int, logits: tuple[float, float], **serve: object) -> None:
    folder = stack.layout.version(version)
    save_model(folder / "model", logits)
    manifest = PackageManifest(
        pipeline="digits",
        version=version,
        created_at="2026-01-01T00:00:00Z",
        digest=digest_directory(folder / "model"),
        inputs={"x": InputSpec(dtype="float32")},
        heads={"digit": HeadConfig(task="multiclass_classification", classes=("a", "b"))},
        serve=ServeConfig.model_validate({"drain_seconds": 5.0, **serve}),
        provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
    )
    manifest.write(folder / "package.json")


def listener(port: int) -> psutil.Process:
    """Return the process that has a port."""
    (pid,) = {
        connection.pid
        for connection in psutil.net_connections("tcp4")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }
    return psutil.Process(pid)


class GrpcCaller:
    """Calls Predict at the data plane; `statuses` counts how its calls ended."""

    def __init__(self, port: int, token: str, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self._token = token
        self.statuses: Counter[str] = Counter()

    def call(self, x: float = 1.0, token: str | None = None, **metadata: str) -> str:
        """Return the version that answered, or the status and its words."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "digits"
        request.inputs["x"].dtype = 1
        request.inputs["x"].tensor_shape.dim.add(size=1)
        request.inputs["x"].float_val.append(x)
        sent = [(key.replace("_", "-"), value) for key, value in metadata.items()]
        sent.append(("authorization", f"Bearer {self._token if token is None else token}"))
        try:
            answer = self._stub.Predict(request, self._seconds, metadata=sent)
        except grpc.RpcError as error:
            self.statuses[error.code().name] += 1
            return f"{error.code().name}: {error.details()}"
        self.statuses["OK"] += 1
        return str(answer.model_spec.version.value)
