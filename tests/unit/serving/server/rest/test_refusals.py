"""What the REST API refuses, with which status and words, over real sockets."""

import threading
from typing import Any

import pytest

from contract.schema.serving import ServeConfig

PREDICT = "/v1/models/doubling:predict"


def error_of(answer: tuple[int, Any, Any]) -> str:
    return str(answer[2]["error"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON: .* line 1 column 2"),
        (b'{"instances": [NaN]}', "not JSON: .* column 16"),
        (b'{"instances": [Infinity]}', "not JSON"),
        (b'{"instances": [1e999]}', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ('{"instances": [1]}'.encode("utf-16"), "not JSON: .*; it looks like UTF-16: send UTF-8"),
        ('{"instances": [1]}'.encode("utf-16-le"), "it looks like UTF-16: send UTF-8"),
        ('{"instances": ["ä"]}'.encode("latin-1"), "; byte 16 is none of UTF-8: send UTF-8"),
        (b"\xef\xbb\xbf" * 2 + b"{}", "not JSON"),
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
        (
            b'{"instances": [1], "instances": [2]}',
            "^body: found the key 'instances' twice; expected",
        ),
        (b'{"inputs": {"x": [1], "x": [2]}}', "^inputs: found the key 'x' twice"),
        (
            b'{"instances": [{"x": 1}, {"x": 1, "x": 1}]}',
            r"^instances\[1\]: found the key 'x' twice",
        ),
        (b'{"instances": [{"x": 1, "\\u0078": 2}]}', r"^instances\[0\]: found the key 'x' twice"),
        (b'{"instances": [1], "a": ":", "b": {"c": 1, "c": ":"}}', "^b: found the key 'c' twice"),
        (
            b'{"instances": [1], "a": %b, "a": ":"}' % (b"[" * 1010 + b"]" * 1010),
            "^body: (found the key 'a' twice|nested deeper than any input of a model)",
        ),
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
        b'{"examples": [{"x": 1, "x": 2}]}',
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
