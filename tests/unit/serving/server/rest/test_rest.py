"""The REST API as callers meet it, over real sockets; what it refuses is in `test_refusals`."""

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


def test_a_byte_order_mark_is_no_part_of_a_body(server):
    assert server.predict(b'\xef\xbb\xbf{"instances": [1]}')[2] == {"predictions": [2.0]}


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


# --- life, token, faults ------------------------------------------------------------------------


def test_a_server_without_its_model_is_not_healthy_and_says_loading(serve, manifest):
    with serve(manifest()) as server:
        assert server.send("GET", "/healthz")[::2] == (503, {"status": "loading"})
        answer = server.predict({"instances": [1]})
        assert (answer[0], answer[1]["retry-after"]) == (503, "1")
        state = server.send("GET", "/v1/models/doubling")[2]["model_version_status"][0]["state"]
        assert state == "LOADING"


def test_a_draining_server_is_not_healthy_but_still_predicts_and_closes(server):
    server.service.is_draining = server.connections.is_draining = True
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
