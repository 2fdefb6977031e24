"""Damaged calls of gRPC: TensorFlow Serving's API, the Open Inference Protocol, health."""

import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from fuzz_models import INPUTS, any_signature
from grpc import StatusCode

from contract.wire.open_inference import ModelInferRequest, ModelMetadataRequest
from contract.wire.open_tensors import raw_of
from contract.wire.tensorflow_serving import (
    ClassificationRequest,
    GetModelMetadataRequest,
    MultiInferenceRequest,
    PredictRequest,
    TensorProto,
)
from contract.wire.tensors import tensor_of

_TENSORFLOW = "/tensorflow.serving.PredictionService"
_OPEN = "/inference.GRPCInferenceService"
_FITTING = ((1, "float_val"), (7, "string_val"), (9, "int64_val"))
_SIZES = (0, 1, 1, 1, 2, 3, 9, 1000, 1 << 20, 1 << 31, 1 << 62, (1 << 63) - 1, -1)
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
        self._messages, self._pipeline = _messages(pipeline), pipeline
        self._odd = {f"{_TENSORFLOW}/Predict": _odd_predict, f"{_OPEN}/ModelInfer": _odd_infer}
        for name in ("Classify", "Regress"):
            self._odd[f"{_TENSORFLOW}/{name}"] = _odd_examples
        self._damage, self._patience = damage, patience

    def attack(self, chance: random.Random) -> None:
        """Send one call, most of them with a damaged message, and wait for its status."""
        method, message = chance.choice(self._messages)
        if method in self._odd and chance.random() < 0.5:
            message = self._odd[method](self._pipeline, chance)
        data = message if chance.random() < 0.3 else self._damage(message, chance)
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
            where = f"{self.name}, {method}"
            sys.stderr.write(f"{where}: {code.name}: {error.details()} for {data[:300]!r}\n")


def _odd_predict(pipeline: str, chance: random.Random) -> bytes:
    """Return tensors whose type, shape and values do not fit the model or each other."""
    made = PredictRequest(model_spec={"name": pipeline})
    made.model_spec.signature_name, names = any_signature(chance)
    for name in names:
        tensor: TensorProto = made.inputs[name]
        tensor.dtype, field = chance.choice(_FITTING)
        if chance.random() < 0.2:
            tensor.dtype = chance.choice((*range(26), 101))
        for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 70))):
            tensor.tensor_shape.dim.add(size=chance.choice(_SIZES))
        _fill(tensor, (field,), chance)
        if chance.random() < 0.2:
            tensor.tensor_content = chance.randbytes(chance.choice((1, 4, 8, 24)))
    made.output_filter.extend(chance.choice(([], [], [], ["scores"], ["x", "x"], ["none"])))
    return made.SerializeToString()


def _odd_infer(pipeline: str, chance: random.Random) -> bytes:
    made = ModelInferRequest(model_name=pipeline)
    for name in any_signature(chance)[1]:
        shape = [chance.choice(_SIZES) for _ in range(chance.choice((0, 1, 1, 2, 3, 70)))]
        datatype = chance.choice(("FP32", "FP32", "BYTES", "INT64", "BOOL", "FP16", "BF16", ""))
        tensor = made.inputs.add(name=name, datatype=datatype, shape=shape)
        _fill(tensor.contents, ("fp32_contents", "int64_contents", "bytes_contents"), chance)
        if chance.random() < 0.3:
            made.raw_input_contents.append(chance.randbytes(chance.choice((0, 4, 8, 24))))
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        made.outputs.add(name="scores")
    return made.SerializeToString()


def _odd_examples(pipeline: str, chance: random.Random) -> bytes:
    made = ClassificationRequest(model_spec={"name": pipeline})
    made.model_spec.signature_name = any_signature(chance)[0]
    kinds = ("example_list", "example_list_with_context")
    examples = getattr(made.input, chance.choice(kinds)).examples
    for _ in range(chance.choice((0, 1, 2, 3))):
        features = examples.add().features.feature
        for name in chance.sample(INPUTS, 3):
            kind = chance.choice(("float_list", "int64_list", "bytes_list"))
            _fill(getattr(features[name], kind), ("value",), chance, is_text=kind[0] == "b")
    return made.SerializeToString()


def _fill(
    message: Any, fields: tuple[str, ...], chance: random.Random, is_text: bool | None = None
) -> None:
    """Put some values into one of a message's fields."""
    field = chance.choice(fields)
    of_text = field.startswith(("string", "bytes")) if is_text is None else is_text
    values = (b"", b"1.5", b"word", b"\xff") if of_text else (0, 1, 2, 3, 7)
    getattr(message, field).extend(chance.choices(values, k=chance.choice((0, 1, 1, 2, 3, 9))))


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
