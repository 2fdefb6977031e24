"""Where an answer's time went: told to callers who ask, and counted for Prometheus."""

import re
from collections.abc import Mapping

import grpc
import numpy as np
import pytest

from contract.schema.serving import ServeConfig
from contract.wire import tensorflow_serving as wire
from contract.wire.tensors import tensor_of
from serving.server.core.spans import NAMES, Spans, server_timing

WANTED = {"x-server-timing": "1"}
SLOW_SECONDS = 0.05


def spans_in(header: str) -> dict[str, float]:
    """Return the milliseconds of each span that `server-timing` tells."""
    found = re.fullmatch(r"[a-z_]+;dur=[0-9.]+(, [a-z_]+;dur=[0-9.]+)*", header)
    assert found is not None, header
    pairs = (part.split(";dur=") for part in header.split(", "))
    return {name: float(milliseconds) for name, milliseconds in pairs}


def counts_in(exposition: str) -> Mapping[str, float]:
    found = re.findall(r'slipway_span_seconds_count\{span="([a-z_]+)"\} ([0-9.]+)', exposition)
    return {name: float(count) for name, count in found}


def test_spans_follow_each_other_and_add_up() -> None:
    spans = Spans(read_at=10.5)
    spans.note_call(11.0, 12.0)
    spans.note_call(12.5, 14.0)  # the second part of more rows than fit into a call
    seconds = spans.seconds(10.0, 14.25)
    assert seconds == (0.5, 0.5, 3.0, 0.25)
    assert sum(seconds) == 4.25
    assert spans_in(server_timing(seconds)) == dict(zip(NAMES, (500, 500, 3000, 250), strict=True))


@pytest.mark.parametrize("rows", [1, 5])
def test_who_asks_is_told_where_the_time_went(serve, manifest, engine, rows) -> None:
    engine.seconds = SLOW_SECONDS
    small = manifest(serve=ServeConfig(max_batch_size=2, num_batch_threads=1))
    with serve(small, engine) as server:
        status, headers, _ = server.predict({"instances": [1.0] * rows}, **WANTED)
        _, unasked, _ = server.predict({"instances": [1.0]})
        server.predict({"instances": ["x"]}, **WANTED)
        counts = counts_in(server.send("GET", "/metrics")[2].decode())
    assert status == 200
    told = spans_in(headers["server-timing"])
    assert list(told) == list(NAMES)
    calls = -(-rows // 2)
    assert calls * 1e3 * SLOW_SECONDS <= told["predict"] < 20e3
    assert "server-timing" not in unasked
    assert counts == dict.fromkeys(NAMES, 2.0), "a refused request has no spans"


def test_rows_that_waited_for_the_model_were_in_the_queue(serve, manifest, engine) -> None:
    engine.seconds = SLOW_SECONDS
    alone = manifest(serve=ServeConfig(max_batch_size=1, num_batch_threads=1))
    request = wire.PredictRequest()
    request.model_spec.name = "doubling"
    request.inputs["x"].CopyFrom(tensor_of(np.array([1.0], np.float32)))
    with serve(alone, engine, is_grpc=True) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            asked = (request.SerializeToString(), 20, [("x-server-timing", "")])
            calls = [method.future(*asked) for _ in range(3)]
            told = [spans_in(dict(call.trailing_metadata())["server-timing"]) for call in calls]
        counts = counts_in(server.send("GET", "/metrics")[2].decode())
    waited = sorted(spans["queue"] for spans in told)
    assert waited[1] >= 0.9e3 * SLOW_SECONDS
    assert waited[2] >= 1.9e3 * SLOW_SECONDS
    assert counts == dict.fromkeys(NAMES, 3.0)
