"""The REST API as callers meet it: every answer and every refusal, over real sockets."""

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from contract.prediction_log.reading import predictions_of, read_tables
from contract.records.package import InputSpec
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig

PREDICT = "/v1/models/doubling:predict"


def error_of(answer: tuple[int, Any, Any]) -> str:
    return str(answer[2]["error"])


# --- what works ---------------------------------------------------------------------------------


def test_predict_answers_rows_in_order(server):
    status, headers, body = server.predict({"instances": [{"x": 1}, {"x": 2.5}, {"x": -3}]})
    assert (status, body) == (200, {"predictions": [2.0, 5.0, -6.0]})
    assert headers["x-slipway-version"] == "7"
    assert headers["content-type"] == "application/json"


def test_predict_takes_bare_values_where_there_is_one_input(server):
    assert server.predict({"instances": [1, 2]})[2] == {"predictions": [2.0, 4.0]}


@pytest.mark.parametrize("inputs", [[1, 2], {"x": [1, 2]}])
def test_predict_takes_columns_and_answers_columns(server, inputs):
    assert server.predict({"inputs": inputs})[2] == {"outputs": [2.0, 4.0]}


def test_predict_takes_its_own_version_in_the_path(server):
    answer = server.send("POST", "/v1/models/doubling/versions/7:predict", {"instances": [4]})
    assert answer[2] == {"predictions": [8.0]}


def test_predict_takes_a_query_string_any_content_type_and_a_signature_name(server):
    body = {"signature_name": "serving_default", "instances": [4]}
    answer = server.send("POST", PREDICT + "?a=b", body, {"content-type": "text/plain"})
    assert answer[2] == {"predictions": [8.0]}


def test_regress_takes_examples_with_a_context(server):
    body = {"context": {"x": 5}, "examples": [{}, {"x": 1}]}
    answer = server.send("POST", "/v1/models/doubling:regress", body)
    assert (answer[0], answer[2]) == (200, {"results": [10.0, 2.0]})


def test_a_request_with_more_rows_than_a_batch_is_answered_whole(serve, manifest, engine):
    small = manifest(serve=ServeConfig(max_batch_size=4))
    with serve(small, engine) as server:
        answer = server.predict({"instances": list(range(10))})
    assert answer[2] == {"predictions": [2.0 * i for i in range(10)]}
    assert max(engine.batches) == 4


def test_the_request_id_is_echoed_and_otherwise_made(server):
    assert server.predict({"instances": [1]}, **{"x-request-id": "abc"})[1]["x-request-id"] == "abc"
    first = server.predict({"instances": [1]})[1]["x-request-id"]
    assert first != server.predict({"instances": [1]})[1]["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/models/doubling", "/v1/models/doubling/versions/7"])
def test_status_is_available(server, path):
    expected = {
        "version": "7",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    assert server.send("GET", path)[2] == {"model_version_status": [expected]}


def test_metadata_names_inputs_and_outputs(server):
    body = server.send("GET", "/v1/models/doubling/metadata")[2]
    assert body["model_spec"] == {"name": "doubling", "signature_name": "", "version": "7"}
    signature = body["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
        "name": "x:0",
    }


def test_head_is_answered_like_get_without_a_body(server):
    status, headers, body = server.send("HEAD", "/healthz")
    assert (status, body) == (200, b"")
    assert headers["content-length"] == str(len('{"status":"serving"}'))


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON: .* line 1 column 2"),
        (b'{"instances": [NaN]}', "not JSON: .* column 16"),
        (b'{"instances": [Infinity]}', "not JSON"),
        (b'{"instances": [1e999]}', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b"[1]", "expected a JSON object"),
        (b"{}", r"exactly one of 'instances' \(rows\) and 'inputs' \(columns\)"),
        (b'{"instance": [1]}', "did you mean 'instances'"),
        (
            b'{"instances": [1], "inputs": [1]}',
            "found both 'instances' and 'inputs'; expected exact",
        ),
        (b'{"instances": []}', "instances: found an empty list, expected a list of at least one"),
        (b'{"instances": 3}', r"instances: found a whole number \(3\)"),
        (b'{"instances": [{"y": 1}]}', r"instances\[0\]: unknown input 'y'; expected 'x'"),
        (b'{"instances": [{"x": 1}, {}]}', r"instances\[1\].x: missing, without a default"),
        (b'{"instances": [{"x": 1}, 5]}', r"instances\[1\]: found a whole number \(5\), expected"),
        (b'{"instances": [{"x": "a"}]}', r"instances\[0\].x: found a string \('a'\)"),
        (b'{"instances": [{"x": true}]}', r"instances\[0\].x: found a boolean"),
        (b'{"instances": [{"x": [1]}]}', r"found a list, expected a single float32"),
        (b'{"instances": [{"x": 1e39}]}', "does not fit into float32"),
        (b'{"inputs": {"x": []}}', "inputs.x: found an empty list"),
        (b'{"inputs": {"z": [1]}}', "inputs: unknown input 'z'"),
        (b'{"inputs": {}}', "inputs: found an empty object"),
        (b'{"signature_name": "nope", "instances": [1]}', "'nope', expected one of"),
        (b'{"signature_name": 5, "instances": [1]}', "found 5, expected one of"),
        (b'{"instances": [13]}', r"^instances\[0\].x = 13: the model refuses the input: 13 is unl"),
        (b'{"inputs": [1, 2, 13]}', r"^inputs.x\[2\] = 13: the model refuses the input: 13 is unl"),
    ],
)
def test_a_bad_body_is_refused_with_400_and_the_reason(server, body, message):
    answer = server.predict(body)
    assert answer[0] == 400
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error_of(answer))
    assert server.predict({"instances": [1]})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/", 404, "/: not found; this server has version 7 of 'doubling'"),
        ("POST", "/v1/models/dubling:predict", 404, "did you mean '/v1/models/doubling:predict'"),
        ("POST", "/v1/models/doubling/versions/8:predict", 404, "did you mean .*versions/7"),
        ("GET", "/v1/models/doubling/versions/x", 404, "not found"),
        ("POST", "/v1/models/doubling:explode", 404, "not found"),
        ("GET", PREDICT, 405, "method GET is not allowed; expected POST"),
        ("DELETE", "/v1/models/doubling", 405, "expected GET, HEAD"),
    ],
)
def test_a_wrong_path_or_method_is_refused(server, method, path, status, message):
    answer = server.send(method, path, {"instances": [1]} if method == "POST" else None)
    assert answer[0] == status
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error_of(answer))


def test_405_names_the_allowed_methods(server):
    assert server.send("GET", PREDICT)[1]["allow"] == "POST, OPTIONS"


def test_classify_is_refused_by_a_regression_model(server):
    answer = server.send("POST", "/v1/models/doubling:classify", {"examples": [{"x": 1}]})
    assert (answer[0], error_of(answer)) == (400, ":classify: 'doubling' has no such head")


@pytest.mark.parametrize(
    "body",
    [
        {"examples": 3},
        {"examples": [3]},
        {},
        {"context": 1},
        {"examples": [{"x": 1}], "signature_name": []},
        {"examples": [{"x": 1}], "signature_name": "nope"},
    ],
)
def test_regress_refuses_what_is_no_list_of_examples(server, body):
    assert server.send("POST", "/v1/models/doubling:regress", body)[0] == 400


def test_a_body_above_the_limit_is_refused_with_413(serve, manifest, engine):
    with serve(manifest(serve=ServeConfig(max_body_mb=0.001)), engine) as server:
        answer = server.predict({"instances": [1.5] * 1000})
        assert answer[0] == 413
        assert "at most 1048 are accepted (serve.max_body_mb)" in error_of(answer)
        assert answer[1]["connection"] == "close"
        assert server.predict({"instances": [1]})[0] == 200


def test_more_rows_than_the_queue_holds_are_refused_with_413(serve, manifest, engine):
    config = ServeConfig(max_batch_size=2, max_enqueued_batches=2)
    with serve(manifest(serve=config), engine) as server:
        answer = server.predict({"instances": [1] * 5})
    assert (answer[0], "found 5 rows, at most 4" in error_of(answer)) == (413, True)


def test_a_full_queue_answers_503_and_when_to_retry(serve, manifest, slow_engine):
    config = ServeConfig(max_batch_size=1, max_enqueued_batches=2)
    answers: list[tuple[int, dict[str, str], Any]] = []
    with serve(manifest(serve=config), slow_engine) as server:
        threads = [
            threading.Thread(target=lambda: answers.append(server.predict({"instances": [1]})))
            for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    statuses = sorted(status for status, _, _ in answers)
    assert set(statuses) == {200, 503}
    refused = next(answer for answer in answers if answer[0] == 503)
    assert refused[1]["retry-after"] == "1"
    assert "at most 2 may" in error_of(refused)


def asked_together(server: Any, values: list[float]) -> dict[float, tuple[int, Any]]:
    """Ask for each value in a request of its own, all at the same time; return status and body."""
    answers: dict[float, tuple[int, Any]] = {}

    def ask(x: float) -> None:
        status, _, body = server.predict({"instances": [x]})
        answers[x] = (status, body)

    threads = [threading.Thread(target=ask, args=[x]) for x in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_values_that_cannot_be_answered_spare_their_neighbours(serve, manifest, slow_engine):
    with serve(manifest(), slow_engine) as server:
        answers = asked_together(server, [1.0, 666.0, 3.0, 13.0, 5.0, 1e30])
    assert {x: status for x, (status, _) in answers.items()} == {
        1.0: 200,
        3.0: 200,
        5.0: 200,
        13.0: 400,
        666.0: 400,
        1e30: 400,
    }
    assert answers[3.0][1] == {"predictions": [6.0]}
    expected = "instances[0].x = 666: the model refuses the input: broken on purpose"
    assert answers[666.0][1] == {"error": expected}


def test_a_model_that_answers_nothing_is_the_servers_error_and_is_not_called_for_each(
    serve, manifest, slow_engine
):
    slow_engine.is_dead = True
    with serve(manifest(), slow_engine) as server:
        answers = asked_together(server, [float(x) for x in range(20)])
    assert {status for status, _ in answers.values()} == {500}
    assert answers[7.0][1] == {"error": "the model failed: out of memory"}
    # Two or three batches, each called once, and the control row once for each and its requests.
    assert len([rows for rows in slow_engine.batches if rows > 1]) <= 3


def test_the_first_bad_row_of_a_large_request_is_found_in_few_calls(server, engine):
    values = [1.0] * 64
    values[41] = values[50] = 666.0
    engine.batches.clear()
    status, _, body = server.predict({"instances": values})
    assert (status, body["error"][:22]) == (400, "instances[41].x = 666:")
    assert len(engine.batches) <= 10  # the batch, control, log2(64), the row alone


@pytest.mark.parametrize("values", ["instances", "inputs"])
def test_a_row_without_a_finite_answer_is_the_callers_and_named(server, values):
    status, _, body = server.predict({values: [1, 2, 1e30, 1e30]})
    place = {"instances": "instances[2].x", "inputs": "inputs.x[2]"}[values]
    assert (status, body["error"]) == (
        400,
        f"{place} = 1e+30: the model has no finite 'value' for the values of this row; are they in "
        "the range that it was trained on?",
    )


def test_the_row_is_named_where_it_stands_in_a_request_larger_than_a_batch(serve, manifest, engine):
    with serve(manifest(serve=ServeConfig(max_batch_size=4)), engine) as server:
        for value, words in ((1e30, "the model has no finite 'value'"), (666.0, "the model refu")):
            status, _, body = server.predict({"instances": [1.0] * 9 + [value, 2.0]})
            assert status == 400
            assert body["error"].startswith(f"instances[9].x = {value:g}: {words}")


# --- life, token, faults ------------------------------------------------------------------------


def test_a_server_without_its_model_is_not_healthy_and_says_loading(serve, manifest):
    with serve(manifest()) as server:
        assert server.send("GET", "/healthz")[::2] == (503, {"status": "loading"})
        answer = server.predict({"instances": [1]})
        assert (answer[0], answer[1]["retry-after"]) == (503, "1")
        state = server.send("GET", "/v1/models/doubling")[2]["model_version_status"][0]["state"]
        assert state == "LOADING"


def test_a_draining_server_is_not_healthy_but_still_predicts_and_closes(server):
    server.api.is_draining = server.connections.is_draining = True
    assert server.send("GET", "/healthz")[::2] == (503, {"status": "draining"})
    status, headers, _ = server.predict({"instances": [1]})
    assert (status, headers["connection"]) == (200, "close")


def test_a_token_is_asked_for_everywhere_but_for_health(serve, manifest, engine):
    with serve(manifest(), engine, token="s3cret") as server:
        assert server.send("GET", "/healthz")[0] == 200
        for method, path in [("POST", PREDICT), ("GET", "/metrics"), ("GET", "/v1/models/x")]:
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cret"}):
                answer = server.send(method, path, {"instances": [1]}, headers)
                assert (answer[0], answer[1]["www-authenticate"]) == (401, "Bearer")
        granted = server.predict({"instances": [1]}, authorization="Bearer s3cret")
        assert granted[0] == 200


def test_errors_of_the_server_are_not_logged_as_refusals(serve, manifest, engine, tmp_path):
    with serve(
        manifest(serve=ServeConfig(fault_ratio=0.5)), engine, predictions=tmp_path
    ) as server:
        answers = [server.predict({"instances": [1]})[0] for _ in range(4)]
    assert answers.count(500) == 2
    (table,) = read_tables(tmp_path)
    assert table["status"].to_pylist() == [200, 200]


def test_faults_hit_exactly_the_share_that_was_asked_for(serve, manifest, engine, caplog):
    with serve(manifest(serve=ServeConfig(fault_ratio=0.1)), engine) as server:
        answers = [server.predict({"instances": [1]}) for _ in range(50)]
        exposition = server.send("GET", "/metrics")[2].decode()
    failed = [answer for answer in answers if answer[0] == 500]
    assert len(failed) == 5
    assert error_of(failed[0]) == "fault injected on purpose (serve.fault_ratio 0.1)"
    assert "slipway_faults_injected_total 5.0" in exposition
    assert "fault injected on purpose: 1 of 10 predictions" in caplog.text


def test_metrics_count_requests_by_code_batches_and_rows(server):
    server.predict({"instances": [1, 2, 3]})
    server.predict({"instances": ["x"]})
    text = server.send("GET", "/metrics")[2].decode()
    assert 'slipway_requests_total{code="200",method="predict"} 1.0' in text
    assert 'slipway_requests_total{code="400",method="predict"} 1.0' in text
    assert 'slipway_request_seconds_count{method="predict"} 2.0' in text
    assert "slipway_batch_rows_sum 3.0" in text
    assert "slipway_queue_rows 0.0" in text
    assert 'slipway_model_info{model="doubling",version="7"} 1.0' in text


def test_predictions_are_logged_under_their_request_id(serve, manifest, engine, tmp_path):
    with serve(manifest(), engine, predictions=tmp_path) as server:
        server.predict({"instances": [1, 2]}, **{"x-request-id": "abc", "x-slipway-arm": "canary"})
        for request_id, instance in (("wrong", "x"), ("unlucky", 13), ("endless", 1e30)):
            headers = {"x-request-id": request_id, "x-slipway-arm": "no arm"}
            server.predict({"instances": [instance]}, **headers)
        server.send("GET", "/v1/models/doubling/versions/9")
    found = [one for table in read_tables(tmp_path) for one in predictions_of(table)]
    assert {one.version for one in found} == {7}
    answered = [one for one in found if one.status == 200]
    assert [(one.request_id, one.row) for one in answered] == [("abc", 0), ("abc", 1)]
    assert [one.predicted for one in answered] == [{"twice": 2.0}, {"twice": 4.0}]
    assert {(one.arm, one.signature) for one in answered} == {("canary", "serving_default")}
    assert all(0.0 < one.latency_seconds < 10.0 for one in found)
    refused = {one.request_id: (one.status, one.arm) for one in found if one.status != 200}
    assert refused == dict.fromkeys(("wrong", "unlucky", "endless"), (400, ""))


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, [None, None]), (1.0, [{"x": 1}, {"x": 2}])])
def test_inputs_are_logged_if_the_config_asks_for_them(
    serve, manifest, engine, tmp_path, ratio, expected
):
    made = manifest(serve=ServeConfig(prediction_log_inputs_ratio=ratio))
    with serve(made, engine, predictions=tmp_path) as server:
        server.predict({"instances": [1, 2]})
    found = [one for table in read_tables(tmp_path) for one in predictions_of(table)]
    assert [one.inputs for one in found] == expected


# --- several heads ------------------------------------------------------------------------------


class TwoHeads:
    """An engine with a classification and a regression head, and names for both."""

    signatures: Mapping[str, Any] = MappingProxyType({})

    def call(self, _signature: str, columns: Any) -> dict[str, Any]:
        x = columns["x"]
        scores = np.stack([1 - x, x], axis=1).astype(np.float32)
        return {"sure_scores": scores, "price_value": 3 * x}


@pytest.fixture
def two_heads(serve, manifest):
    heads = {
        "sure": HeadConfig(task="binary_classification", classes=("no", "yes")),
        "price": HeadConfig(task="regression"),
    }
    with serve(manifest(heads=heads), TwoHeads()) as server:
        yield server


def test_several_outputs_are_named_in_rows_and_columns(two_heads):
    row = {"sure_scores": [0.75, 0.25], "price_value": 0.75}
    assert two_heads.predict({"instances": [0.25]})[2] == {"predictions": [row]}
    columns = {"sure_scores": [[0.75, 0.25]], "price_value": [0.75]}
    assert two_heads.predict({"inputs": [0.25]})[2] == {"outputs": columns}


def test_classify_answers_labels_and_takes_the_head_as_signature_name(two_heads):
    path = "/v1/models/doubling:classify"
    expected = {"results": [[["no", 0.75], ["yes", 0.25]]]}
    assert two_heads.send("POST", path, {"examples": [{"x": 0.25}]})[2] == expected
    named = {"signature_name": "sure", "examples": [{"x": 0.25}]}
    assert two_heads.send("POST", path, named)[2] == expected
    wrong = {"signature_name": "price", "examples": [{"x": 0.25}]}
    assert "expected a head: 'sure'" in error_of(two_heads.send("POST", path, wrong))


def test_a_default_fills_what_is_missing_or_null(serve, manifest, engine):
    inputs = {"x": InputSpec(dtype="float32", default=4.0)}
    with serve(manifest(inputs=inputs), engine) as server:
        answer = server.predict({"instances": [{}, {"x": None}, {"x": 1}]})
    assert answer[2] == {"predictions": [8.0, 8.0, 2.0]}
