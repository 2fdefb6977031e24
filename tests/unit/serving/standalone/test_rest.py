"""TensorFlow Serving's REST API for any signature."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.schema.serving import ServeConfig
from serving.standalone.configuration import Batching, ModelConfig, VersionPolicy
from serving.standalone.rest import RestOptions
from serving.standalone.servables import Loading

from .conftest import BROKEN, Program, counted_threads, running, version

PREDICT = "/v1/models/m:predict"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    base = tmp_path_factory.mktemp("models")
    version(base, 1), version(base, 2)
    options = RestOptions(metrics_path="/metrics", is_open_to_pages=True)
    with running(Loading(retries=0, allows_unknown_labels=True), rest=options) as made:
        made.serve(ModelConfig("m", base, VersionPolicy("all"), {"stable": 1}))
        made.wait_for("m", {1: "AVAILABLE", 2: "AVAILABLE"})
        yield made


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/models/m:predict", 3.0),
        ("/v1/models/m/versions/1:predict", 2.0),
        ("/v1/models/m/versions/2:predict", 3.0),
        ("/v1/models/m/labels/stable:predict", 2.0),
        ("/V1/Models/m:PREDICT", 3.0),  # the real program does not mind the case
        ("/v1/models/%6d:predict?x=1", 3.0),
    ],
)
def test_paths_name_a_version(program: Program, path: str, expected: float) -> None:
    assert program.send("POST", path, {"instances": [2.0]}) == (200, {"predictions": [expected]})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"instances": [2.0, 4.0]}, {"predictions": [3.0, 4.0]}),
        ({"instances": [[2, 4], [6.5, 0]]}, {"predictions": [[3.0, 4.0], [5.25, 2.0]]}),
        ({"inputs": 2.0}, {"outputs": 3.0}),  # a scalar
        ({"inputs": [2.0]}, {"outputs": [3.0]}),
        ({"inputs": {"x": [2.0]}}, {"outputs": [3.0]}),
        ({"inputs": []}, {"outputs": []}),
        (
            {"signature_name": "two", "instances": [{"x": 2.0, "text": "a"}]},
            {"predictions": [{"y": 3.0, "n": 0}]},
        ),
        (
            {"signature_name": "two", "inputs": {"x": [2.0], "text": [{"b64": "YQ=="}]}},
            {"outputs": {"y": [3.0], "n": [0]}},
        ),
        ({"signature_name": "whole", "inputs": [2.0, 4.0]}, {"outputs": 7.0}),
    ],
)
def test_predict_takes_and_answers_tensors_of_any_shape(
    program: Program, body: Any, expected: Any
) -> None:
    assert program.send("POST", PREDICT, body) == (200, expected)


def test_numbers_that_json_has_not_are_read_and_written(program: Program) -> None:
    body = b'{"instances": [NaN, Infinity, -Infinity, 0.2]}'
    status, found = program.send("POST", PREDICT, body)
    assert status == 200
    assert json.dumps(found) == '{"predictions": [NaN, Infinity, -Infinity, 2.1]}'


def test_a_compressed_body_is_read(program: Program) -> None:
    body = gzip.compress(b'{"instances": [2.0]}')
    found = program.send("POST", PREDICT, body, {"content-encoding": "gzip"})
    assert found == (200, {"predictions": [3.0]})


def test_a_large_body_is_read_beside_the_loop(program: Program) -> None:
    body = {"instances": [2.0] * 100_000}
    status, found = program.send("POST", PREDICT, body)
    assert (status, len(found["predictions"])) == (200, 100_000)


def test_what_is_large_or_may_become_it_is_made_beside_the_loop(program: Program) -> None:
    body = {"signature_name": "classify", "examples": [{"x": 2.5}] * 2}
    classify = "/v1/models/m:classify"
    with counted_threads(program) as threads:
        assert program.send("POST", classify, body)[0] == 200
        assert threads.count == 0
        assert program.send("POST", classify, body | {"context": {"y": 1}})[0] == 200
        assert threads.count == 1
        assert program.send("POST", classify, body | {"examples": [{"x": 2.5}] * 30_000})[0] == 200
        assert threads.count == 3  # the JSON, and the examples
        packed = gzip.compress(b'{"instances": [2.0]}')
        assert program.send("POST", PREDICT, packed, {"content-encoding": "gzip"})[0] == 200
        assert threads.count == 5


def test_classify_and_regress_feed_serialized_examples(program: Program) -> None:
    # A tf.Example with one float: 2 + 2 bytes of nesting, the name's entry and the value.
    from contract.wire.tensorflow_serving import Example

    example = Example()
    example.features.feature["x"].float_list.value.append(2.5)
    size = float(len(example.SerializeToString()))
    body: Any = {"signature_name": "regress", "examples": [{"x": 2.5}]}
    assert program.send("POST", "/v1/models/m:regress", body) == (200, {"results": [size]})
    body["context"] = {"x": 2.5}
    assert program.send("POST", "/v1/models/m:regress", body) == (200, {"results": [2 * size]})
    body = {"signature_name": "classify", "examples": [{"x": 2.5}]}
    assert program.send("POST", "/v1/models/m:classify", body) == (
        200,
        {"results": [[["odd", size], ["even", size]]]},
    )


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (PREDICT, b"", 400, "JSON Parse error: The document is empty"),
        (PREDICT, b"{", 400, "JSON Parse error: "),
        (PREDICT, [1], 400, "JSON Value: [1] Is not object"),
        (PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
        (PREDICT, {"instances": [1], "inputs": [1]}, 400, "expecting only one of 'inputs' or"),
        (PREDICT, {"instances": 1}, 400, "Expecting 'instances' to be an list/array"),
        (PREDICT, {"instances": []}, 400, "No values in 'instances' array"),
        (PREDICT, {"instances": [1], "signature_name": 5}, 400, "'signature_name' key must be a"),
        (
            PREDICT,
            {"instances": [1.0, "a"]},
            400,
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: JSON "
            'Value: "a" Type: String is not of expected type: float',
        ),
        (
            PREDICT,
            {"instances": [[1.0], [1.0, 2.0]]},
            400,
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting "
            "shape [1] but got: [2]",
        ),
        (PREDICT, {"instances": [[1.0], 2.0]}, 400, "Expecting shape [1] but got: []"),
        (PREDICT, {"instances": [{"z": 1.0}]}, 400, "keys must be equal to: x"),
        (PREDICT, {"instances": [True]}, 400, "Type: True is not of expected type: float"),
        (PREDICT, {"inputs": {"z": 1.0}}, 400, "Missing named input: x in 'inputs' object."),
        (PREDICT, {"inputs": [[1.0], 2.0]}, 400, "found at incorrect level: 2"),
        (PREDICT, {"inputs": [[1.0], []]}, 400, "Encountered list at unexpected size: 0 at level"),
        (
            PREDICT,
            {"instances": [1.0], "signature_name": "two"},
            400,
            "instances is a plain list, but expecting list of objects as multiple input tensors",
        ),
        (
            PREDICT,
            {"inputs": {"x": [1.0], "text": [{"b64": "?"}]}, "signature_name": "two"},
            400,
            "Unable to base64 decode",
        ),
        (PREDICT, {"instances": [1.0], "signature_name": "no"}, 400, '"no" not found'),
        (
            PREDICT,
            {"instances": [1.0], "signature_name": "whole"},
            400,
            "Tensor name: sum has no shape information ",
        ),
        (PREDICT, {"instances": [BROKEN]}, 400, "minus one is out of range"),
        (
            "/v1/models/n:predict",
            {"instances": [1.0]},
            404,
            "Servable not found for request: Latest(n)",
        ),
        (
            "/v1/models/m/labels/no:predict",
            {"instances": [1.0]},
            400,
            "Unrecognized servable version label: no",
        ),
        ("/v1/models/m:regress", {"examples": [{}]}, 400, "No regression inputs found"),
        ("/v1/models/m:classify", {}, 400, "key 'examples' is expected and was not found"),
        ("/v1/models/m:classify", {"examples": []}, 400, "'examples' value is an empty array"),
        ("/v1/models/m:classify", {"examples": [1]}, 400, "must be JSON object but got JSON Num"),
        (
            "/v1/models/m:classify",
            {"examples": [{"x": [1, 2.0]}]},
            400,
            "Unexpected element type in feature: x expecting type: int64",
        ),
        (
            "/v1/models/m:classify",
            {"examples": [{"x": None}]},
            400,
            "Feature: x has element with unexpected JSON type: Null",
        ),
        (PREDICT, b'{"signature_name": "\\ud800", "inputs": 1}', 400, "JSON Parse error: "),
        (PREDICT, b'{"inputs": ["\\ud800"], "x": NaN}', 400, "JSON Parse error: "),
        (PREDICT, b'{"inputs": ["\xed\xa0\x80"]}', 400, "JSON Parse error: "),
        (PREDICT, b'{"inputs": %s1.0%s}' % (b"[" * 65, b"]" * 65), 400, "more than 64 dimensions"),
        (
            PREDICT,
            b'{"instances": %s1.0%s}' % (b"[" * 66, b"]" * 66),
            400,
            "more than 64 dimensions",
        ),
        (
            PREDICT,
            b'{"instances": {"a": %s1%s}}' % (b"[" * 1000, b"]" * 1000),
            400,
            'JSON Value: {"instances": {"a": ' + 100 * "[",
        ),
        ("/v1/models/m:explain", {}, 400, "Malformed request: POST /v1/models/m:explain"),
        ("/v1/models/m", {}, 400, "Malformed request: POST /v1/models/m"),
        ("/v2/models/m", {}, 404, "/v2/models/m: not found"),
        (
            "/v1/models/m/versions/99999999999999999999:predict",
            {},
            400,
            "Failed to convert version: 99999999999999999999 to numeric.",
        ),
        (f"/v1/models/m/versions/{'9' * 5000}:predict", {}, 400, "Failed to convert version: 9999"),
    ],
)
def test_errors_are_worded_as_the_real_program_words_them(
    program: Program, path: str, body: Any, status: int, message: str
) -> None:
    found, answer = program.send("POST", path, body)
    assert (found, message in answer["error"]) == (status, True), answer


def test_status_names_all_versions_newest_first(program: Program) -> None:
    ok = {"error_code": "OK", "error_message": ""}
    both = [{"version": n, "state": "AVAILABLE", "status": ok} for n in ("2", "1")]
    assert program.send("GET", "/v1/models/m") == (200, {"model_version_status": both})
    one = (200, {"model_version_status": both[1:]})
    assert program.send("GET", "/v1/models/m/versions/1") == one
    assert program.send("GET", "/v1/models/m/labels/stable") == one


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/models/n", "Could not find any versions of model n"),
        ("/v1/models/m/versions/9", "Could not find version 9 of model m"),
    ],
)
def test_status_of_what_is_not_there_is_404(program: Program, path: str, message: str) -> None:
    assert program.send("GET", path) == (404, {"error": message})


def test_a_version_is_a_number_however_it_is_written(program: Program) -> None:
    assert program.send("GET", f"/v1/models/m/versions/{'0' * 5000}1")[0] == 200
    status, found = program.send("GET", f"/v1/models/m/versions/{'9' * 5000}")
    assert (status, found["error"][:40]) == (400, "Failed to convert version: 9999999999999")


def test_metadata_are_the_signatures_of_the_model(program: Program) -> None:
    status, found = program.send("GET", "/v1/models/m/versions/1/metadata")
    assert status == 200
    assert found["model_spec"] == {"name": "m", "signature_name": "", "version": "1"}
    tensor = {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
    }
    assert found["metadata"]["signature_def"]["signature_def"]["serving_default"] == {
        "inputs": {"x": {**tensor, "name": "x:0"}},
        "outputs": {"y": {**tensor, "name": "y:0"}},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }


def test_pages_may_call_where_that_is_allowed(program: Program) -> None:
    assert program.send("OPTIONS", PREDICT, headers={"origin": "https://a.org"}) == (200, b"")
    status, found = program.send("OPTIONS", PREDICT)
    assert (status, found["error"]) == (400, "Origin header is missing in CORS preflight")


def test_prometheus_reads_tensorflow_servings_names(tmp_path: Path) -> None:
    version(tmp_path, 1)
    with running() as program:
        program.serve(ModelConfig("m", tmp_path))
        program.send("POST", PREDICT, {"instances": [2.0]})
        program.send("POST", PREDICT, {"instances": [BROKEN]})
        program.send("POST", "/v1/models/made-up:predict", {"instances": [1.0]})
        status, page = program.send("GET", "/metrics")
    lines = page.decode().splitlines()
    assert status == 200
    assert "# TYPE :tensorflow:serving:request_count counter" in lines
    for name, code in (("m", "OK"), ("m", "OUT_OF_RANGE"), ("", "NOT_FOUND")):
        labels = f'model_name="{name}",status="{code}"'
        assert f":tensorflow:serving:request_count{{{labels}}} 1" in lines
    timed = 'model_name="m",API="predict",entrypoint="REST"'
    assert f":tensorflow:serving:request_latency_count{{{timed}}} 1" in lines
    assert f':tensorflow:serving:request_latency_bucket{{{timed},le="+Inf"}} 1' in lines


def test_a_call_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    folder = version(tmp_path, 1)
    with running(rest=RestOptions(timeout_seconds=0.05)) as program:
        program.serve(ModelConfig("m", tmp_path))
        program.opened[folder].may_answer.clear()
        status, found = program.send("POST", PREDICT, {"instances": [2.0]})
        program.opened[folder].may_answer.set()
    assert (status, found["error"]) == (504, "the time for the request has passed")


def batching(**changes: Any) -> Batching:
    sizes: dict[str, Any] = {"max_batch_size": 8, "allowed_batch_sizes": (2, 8)}
    return Batching(ServeConfig(**(sizes | changes)), 8)


def test_a_batch_is_filled_up_to_an_allowed_size_and_answers_its_rows_only(
    tmp_path: Path,
) -> None:
    folder = version(tmp_path, 1)
    with running(batching=batching()) as program:
        program.serve(ModelConfig("m", tmp_path))
        found = program.send("POST", PREDICT, {"instances": [2.0, 4.0, 6.0]})
        assert found == (200, {"predictions": [2.0, 3.0, 4.0]})
        assert program.opened[folder].calls == [8]
        nan = program.send("POST", PREDICT, b'{"instances": [NaN]}')
        assert json.dumps(nan[1]) == '{"predictions": [NaN]}'
        assert program.opened[folder].calls == [8, 2]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": 2.0}, "Batching Run() input tensors must have at least one dimension"),
        ({"inputs": [0.0] * 9}, "Task size 9 is larger than maximum input batch size 8"),
        (
            {"inputs": {"x": [1.0], "text": ["a", "b"]}, "signature_name": "two"},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        ({"inputs": [1.0], "signature_name": "whole"}, "Batched output 'sum:0' has not one entry"),
    ],
)
def test_what_cannot_be_batched_is_refused(tmp_path: Path, body: Any, message: str) -> None:
    version(tmp_path, 1)
    with running(batching=batching()) as program:
        program.serve(ModelConfig("m", tmp_path))
        status, found = program.send("POST", PREDICT, body)
    assert (status, message in found["error"]) == (400, True), found
