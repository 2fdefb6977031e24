"""Where an answer's time went, of models from elsewhere: with batching and without, both fronts."""

import json
import re
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest

from contract.schema.serving import ServeConfig
from contract.wire import tensorflow_serving as wire
from contract.wire.tensors import write_tensor
from serving.server.core.spans import NAMES
from serving.standalone.configuration import Batching, ModelConfig

from .conftest import running, version

BATCHING = Batching(ServeConfig(max_batch_size=2), 4)


def names_in(header: str) -> list[str]:
    return re.findall(r"([a-z_]+);dur=[0-9.]+", header)


@pytest.mark.parametrize("batching", [None, BATCHING])
def test_who_asks_is_told_where_the_time_went(tmp_path: Path, batching: Batching | None) -> None:
    version(tmp_path / "models", 1)
    socket = tmp_path / "s"
    request = wire.PredictRequest()
    request.model_spec.name = "m"
    write_tensor(request.inputs["x"], np.array([1.0, 2.0, 3.0], np.float32))
    with running(batching=batching, rpc={"socket": str(socket)}) as program:
        program.serve(ModelConfig("m", tmp_path / "models"))
        posted = urllib.request.Request(
            f"http://127.0.0.1:{program.rest_port}/v1/models/m:predict",
            json.dumps({"instances": [1.0, 2.0, 3.0]}).encode(),
            {"x-server-timing": "1"},
        )
        with urllib.request.urlopen(posted, timeout=60) as answer:
            over_http = answer.headers["server-timing"]
        with grpc.insecure_channel(f"unix:{socket}") as channel:
            method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            asked, metadata = request.SerializeToString(), [("x-server-timing", "1")]
            _, call = method.with_call(asked, timeout=60, metadata=metadata)
            _, unasked = method.with_call(asked, timeout=60)
        page = program.send("GET", "/metrics")[1].decode()
    assert names_in(over_http) == list(NAMES)
    assert names_in(dict(call.trailing_metadata())["server-timing"]) == list(NAMES)
    assert "server-timing" not in dict(unasked.trailing_metadata())
    for name in NAMES:
        assert f'slipway_span_seconds_count{{model_name="m",span="{name}"}} 3' in page
