"""Damaged calls of gRPC: TensorFlow Serving's API, the Open Inference Protocol, health."""

import random
import sys
from collections import Counter
from collections.abc import Callable

import grpc
import numpy as np
from grpc import StatusCode

from contract.wire.open_inference import ModelInferRequest, ModelMetadataRequest
from contract.wire.open_tensors import raw_of
from contract.wire.tensorflow_serving import (
    ClassificationRequest,
    GetModelMetadataRequest,
    MultiInferenceRequest,
    PredictRequest,
)
from contract.wire.tensors import tensor_of

_TENSORFLOW = "/tensorflow.serving.PredictionService"
_OPEN = "/inference.GRPCInferenceService"
# What tells of a fault of the server; UNAVAILABLE means "later", as 503 does.
_SERVERS = (StatusCode.INTERNAL, StatusCode.UNKNOWN, StatusCode.DATA_LOSS)

Damage = Callable[[bytes, random.Random], bytes]


class GrpcTarget:
    """One port of gRPC, and the statuses that came back."""

    def __init__(
        self, name: str, port: int, token: str, pipeline: str, damage: Damage, patience: float
    ) -> None:
        """Take damage to bytes, and the seconds after which a call without an answer hangs."""
        self.name = name
        self.counts: Counter[str] = Counter()
        self.server_errors = 0
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._metadata = [("authorization", f"Bearer {token}")] if token else []
        self._messages = _messages(pipeline)
        self._damage, self._patience = damage, patience

    def attack(self, chance: random.Random) -> None:
        """Send one call, most of them with a damaged message, and wait for its status."""
        method, message = chance.choice(self._messages)
        data = message if chance.random() < 0.1 else self._damage(message, chance)
        data = chance.randbytes(chance.randrange(2000)) if chance.random() < 0.1 else data
        try:
            call = self._channel.unary_unary(method)
            call(data, timeout=self._patience, metadata=self._metadata)
            self.counts["OK"] += 1
        except grpc.RpcError as error:
            self._note(method, data, error)

    def _note(self, method: str, data: bytes, error: grpc.RpcError) -> None:
        code = error.code()
        is_hang = code is StatusCode.DEADLINE_EXCEEDED
        self.counts["hang" if is_hang else code.name] += 1
        self.server_errors += code in _SERVERS
        if is_hang or code in _SERVERS:
            sys.stderr.write(f"{method}: {code.name}: {error.details()} for {data[:300]!r}\n")


def _messages(pipeline: str) -> list[tuple[str, bytes]]:
    """Return a valid message, or one of the right form, for each method."""
    rows = np.array([1.0, 2.0, 3.0], np.float32)
    predict = PredictRequest(model_spec={"name": pipeline})
    predict.inputs["x"].CopyFrom(tensor_of(rows))
    infer = ModelInferRequest(model_name=pipeline, raw_input_contents=[raw_of(rows)])
    infer.inputs.add(name="x", datatype="FP32", shape=[3])
    classify = ClassificationRequest(model_spec={"name": pipeline})
    features = classify.input.example_list.examples.add().features
    features.feature["x"].float_list.value.append(1.0)
    several = MultiInferenceRequest(input=classify.input)
    several.tasks.add(model_spec={"name": pipeline}, method_name="tensorflow/serving/classify")
    metadata = GetModelMetadataRequest(
        model_spec={"name": pipeline}, metadata_field=["signature_def"]
    )
    found = {
        f"{_TENSORFLOW}/Predict": predict,
        f"{_TENSORFLOW}/Classify": classify,
        f"{_TENSORFLOW}/Regress": classify,
        f"{_TENSORFLOW}/MultiInference": several,
        f"{_TENSORFLOW}/GetModelMetadata": metadata,
        "/tensorflow.serving.ModelService/GetModelStatus": metadata,
        f"{_OPEN}/ModelInfer": infer,
        f"{_OPEN}/ModelMetadata": ModelMetadataRequest(name=pipeline),
        "/grpc.health.v1.Health/Check": metadata,
        "/no.such.Service/Method": predict,
    }
    return [(method, message.SerializeToString()) for method, message in found.items()]
