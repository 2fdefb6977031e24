"""The Open Inference Protocol over REST, by bodies written by hand."""

import json
import struct
from typing import Any

import pytest

from contract.prediction_log.reading import predictions_of, read_tables

MODEL = "/v2/models/doubling"
INFER = f"{MODEL}/infer"
HEADER = "inference-header-content-length"


def body(*values: float, **changes: Any) -> dict[str, Any]:
    x = {"name": "x", "shape": [len(values)], "datatype": "FP32", "data": list(values)}
    return {"id": "7", "inputs": [x], **changes}


def binary(*values: float, size: int | None = None, **changes: Any) -> tuple[bytes, dict[str, str]]:
    """Return a body with the values behind the JSON, and the header that says where."""
    raw = struct.pack(f"<{len(values)}f", *values)
    x: dict[str, Any] = {"name": "x", "shape": [len(values)], "datatype": "FP32"}
    x["parameters"] = {"binary_data_size": len(raw) if size is None else size}
    text = json.dumps({"inputs": [x], **changes}).encode()
    return text + raw, {HEADER: str(len(text))}


# --- what works ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [INFER, f"{MODEL}/versions/7/infer"])
def test_infer_answers_rows_in_order(server, path) -> None:
    status, headers, found = server.send("POST", path, body(1, 2.5))
    value = {"name": "value", "datatype": "FP32", "shape": [2], "data": [2.0, 5.0]}
    assert status == 200
    assert found == {
        "model_name": "doubling",
        "model_version": "7",
        "id": "7",
        "outputs": [value],
    }
    assert headers["x-slipway-version"] == "7"


def test_binary_data_stand_behind_the_json_both_ways(server) -> None:
    content, headers = binary(1, -3, parameters={"binary_data_output": True})
    status, found, answer = server.send("POST", INFER, content, headers)
    assert status == 200
    assert found["content-type"] == "application/octet-stream"
    end = int(found[HEADER])
    (value,) = json.loads(answer[:end])["outputs"]
    assert (value["shape"], value["parameters"]) == ([2], {"binary_data_size": 8})
    assert struct.unpack("<2f", answer[end:]) == (2.0, -6.0)


def test_an_output_is_asked_for_as_binary_data_by_its_name(server) -> None:
    wanted = [{"name": "value", "parameters": {"binary_data": True}}]
    _, headers, answer = server.send("POST", INFER, body(1, outputs=wanted))
    assert struct.unpack("<f", answer[int(headers[HEADER]) :]) == (2.0,)


def test_health_and_metadata(server) -> None:
    assert server.send("GET", "/v2/health/live")[0] == 200
    for path in ("/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/7/ready"):
        assert server.send("GET", path)[::2] == (200, {"name": "doubling", "ready": True})
    assert server.send("GET", "/v2")[2] == {
        "name": "slipway",
        "version": "2",
        "extensions": ["binary_tensor_data"],
    }
    assert server.send("GET", MODEL)[2] == {
        "name": "doubling",
        "versions": ["7"],
        "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "value", "datatype": "FP32", "shape": [-1]}],
    }


def test_a_server_that_loads_or_drains_is_live_but_not_ready(serve, manifest, engine) -> None:
    with serve(manifest()) as server:
        assert server.send("GET", "/v2/health/live")[0] == 200
        assert server.send("GET", f"{MODEL}/ready")[::2] == (
            503,
            {"name": "doubling", "ready": False},
        )
        assert server.send("POST", INFER, body(1))[0] == 503
    with serve(manifest(), engine) as server:
        server.service.is_draining = True
        assert server.send("GET", "/v2/health/ready")[0] == 503


def test_answers_and_refusals_are_logged(serve, manifest, engine, tmp_path) -> None:
    with serve(manifest(), engine, predictions=tmp_path) as server:
        server.send("POST", INFER, body(1), {"x-request-id": "r1"})
        server.send("POST", INFER, body(13), {"x-request-id": "r2"})
        text = server.send("GET", "/metrics")[2].decode()
    rows = [one for table in read_tables(tmp_path) for one in predictions_of(table)]
    assert {(r.request_id, r.status): r.predicted for r in rows} == {
        ("r1", 200): {"twice": 2.0},
        ("r2", 400): {},
    }
    assert 'slipway_requests_total{code="200",method="infer"} 1.0' in text


def test_a_token_is_asked_for_but_not_for_health(serve, manifest, engine) -> None:
    with serve(manifest(), engine, token="s3cret") as server:
        assert server.send("GET", "/v2/health/ready")[0] == 200
        assert server.send("POST", INFER, body(1))[0] == 401
        headers = {"authorization": "Bearer s3cret"}
        assert server.send("POST", INFER, body(1), headers)[0] == 200


# --- what is refused ----------------------------------------------------------------------------


def changed(**changes: Any) -> dict[str, Any]:
    """Return a body whose one input has other fields."""
    found = body(1)
    found["inputs"][0] |= changes
    return found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "body: not JSON"),
        ({"inputs": 1}, "inputs: expected a list of objects"),
        ({"inputs": []}, "inputs: found none, expected 'x'"),
        (changed(name=1), "inputs[0]: expected the texts 'name' and 'datatype'"),
        (changed(shape=["1"]), "inputs[0].shape: expected a list of whole numbers"),
        (changed(shape=[2]), "inputs.x: found 1 values, expected 2 for its shape"),
        (changed(datatype="FLOAT"), "inputs.x: datatype: found 'FLOAT', expected one of BOOL"),
        (changed(datatype="INT64"), "inputs.x: found int64 of shape [1], expected float32 of sh"),
        (changed(name="y"), "inputs: unknown input 'y'; expected 'x'"),
        (changed(parameters=3), "parameters: expected an object"),
        ({"inputs": body(1)["inputs"] * 2}, "inputs: found 'x' twice"),
        (body(1, 13), "inputs.x[1] = 13: the model refuses the input: 13 is unlucky"),
        (
            body(1, outputs=[{"name": "values"}]),
            "outputs: unknown output 'values'; did you mean 'val",
        ),
        (body(1, outputs=[{}]), "outputs[0]: expected the text 'name'"),
        (
            body(1, parameters={"signature_name": "no"}),
            "parameters.signature_name: found 'no', expected one of 'serving_default'",
        ),
    ],
)
def test_a_request_that_is_the_callers_fault(server, content, words) -> None:
    status, _, found = server.send("POST", INFER, content)
    assert (status, found["error"][: len(words)]) == (400, words)


@pytest.mark.parametrize(
    ("size", "length", "words"),
    [
        (3, None, "inputs.x: found 3 bytes, expected 4 for its shape and type"),
        (5, None, "inputs.x: binary_data_size: found 5, 4 are left"),
        (None, "x", "Inference-Header-Content-Length: found 'x', expected a number up to"),
        (None, "99999", "Inference-Header-Content-Length: found '99999', expected a number up to"),
    ],
)
def test_binary_data_of_another_size_are_refused(server, size, length, words) -> None:
    content, headers = binary(1, size=size)
    if length is not None:
        headers = {HEADER: length}
    status, _, found = server.send("POST", INFER, content, headers)
    assert (status, found["error"][: len(words)]) == (400, words)


def test_bytes_behind_the_last_input_are_refused(server) -> None:
    content, headers = binary(1)
    status, _, found = server.send("POST", INFER, content + b"more", headers)
    assert (status, found["error"]) == (400, "body: found 4 bytes behind the inputs' data")


@pytest.mark.parametrize("path", ["/v2/models/other/infer", f"{MODEL}/versions/8/infer"])
def test_another_model_or_version_is_not_found(server, path) -> None:
    assert server.send("POST", path, body(1))[0] == 404
