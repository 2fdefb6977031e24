"""Nothing that a caller sends over gRPC is answered as the server's fault."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.wire import open_inference
from contract.wire import tensorflow_serving as wire

PREDICTION, INFERENCE = "/tensorflow.serving.PredictionService/", "/inference.GRPCInferenceService/"
CALLERS = {None, *(grpc.StatusCode[name] for name in ("INVALID_ARGUMENT", "NOT_FOUND"))}

SIZES = st.integers(-2, 5) | st.integers(-(2**62), 2**62)
FLOATS = st.floats(width=32)
TEXT = st.sampled_from(["x", "doubling", "serving_default", "value", ""]) | st.text(max_size=5)
TENSORS = st.builds(
    lambda dtype, sizes, content, floats, whole, texts: wire.TensorProto(
        dtype=dtype,
        tensor_shape={"dim": [{"size": size} for size in sizes]},
        tensor_content=content,
        float_val=floats,
        int_val=whole,
        half_val=whole,
        string_val=texts,
    ),
    st.integers(0, 30),
    st.lists(SIZES, max_size=3),
    st.binary(max_size=16),
    st.lists(FLOATS, max_size=5),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
    st.lists(st.binary(max_size=3), max_size=3),
)
PREDICTS = st.builds(
    lambda inputs, signature, wanted: wire.PredictRequest(
        model_spec={"name": "doubling", "signature_name": signature},
        inputs=inputs,
        output_filter=wanted,
    ).SerializeToString(),
    st.dictionaries(TEXT, TENSORS, max_size=2),
    TEXT,
    st.lists(TEXT, max_size=2),
)
INFERS = st.builds(
    lambda name, datatype, shape, floats, raw, wanted: open_inference.ModelInferRequest(
        model_name="doubling",
        inputs=[
            {
                "name": name,
                "datatype": datatype,
                "shape": shape,
                "contents": {"fp32_contents": floats},
            }
        ],
        outputs=[{"name": one} for one in wanted],
        raw_input_contents=raw,
    ).SerializeToString(),
    TEXT,
    st.sampled_from(["FP32", "FP16", "BF16", "BYTES", "INT64", "BOOL", "x"]),
    st.lists(SIZES, max_size=3),
    st.lists(FLOATS, max_size=5),
    st.lists(st.binary(max_size=16), max_size=2),
    st.lists(TEXT, max_size=2),
)
METHODS = st.sampled_from(
    [
        *(f"{PREDICTION}{name}" for name in ("Predict", "Classify", "Regress", "MultiInference")),
        f"{PREDICTION}GetModelMetadata",
        f"{INFERENCE}ModelInfer",
        f"{INFERENCE}ModelMetadata",
    ]
)
CALLS = (
    st.tuples(METHODS, st.binary(max_size=60) | PREDICTS | INFERS)
    | st.tuples(st.just(f"{PREDICTION}Predict"), PREDICTS)
    | st.tuples(st.just(f"{INFERENCE}ModelInfer"), INFERS)
)


@pytest.fixture(scope="module")
def channel(serve_once: Any) -> Iterator[grpc.Channel]:
    with serve_once() as server:
        yield grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(call=CALLS)
def test_no_message_makes_the_server_fail(channel, call) -> None:
    path, content = call
    code, words = None, ""
    try:
        channel.unary_unary(path)(content, timeout=20)
    except grpc.RpcError as error:
        code, words = error.code(), error.details()
    assert code in CALLERS, words
