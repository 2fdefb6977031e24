"""The server as a process with real TensorFlow: answers, refusals to start, dying."""

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.clients.http import open_client
from contract.errors import ServiceUnavailableError
from contract.prediction_log.reading import predictions_of, read_tables
from contract.records.package import InputSpec
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from slipway.client import Client, Connecting

PREDICT = "/v1/models/digits:predict"


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(1).normal(size=(200, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(digits_model, rows):
    """The same rows through the SavedModel in this process: a second implementation."""
    import tensorflow as tf

    model = tf.saved_model.load(str(digits_model))
    return model.signatures["serving_default"](image=tf.constant(rows))["scores"].numpy()


# --- answers ------------------------------------------------------------------------------------


def test_answers_equal_the_saved_model_called_in_process(digits_server, rows, expected):
    status, body = digits_server.send(PREDICT, {"instances": rows.tolist()})
    assert status == 200
    np.testing.assert_allclose(body["predictions"], expected, atol=1e-5)


def test_concurrent_callers_get_their_own_answers(digits_server, rows, expected):
    found = {}

    def call(index: int) -> None:
        for row in range(index, len(rows), 16):
            body = {"instances": [{"image": rows[row].tolist()}]}
            found[row] = digits_server.send(PREDICT, body)[1]["predictions"][0]

    threads = [threading.Thread(target=call, args=[index]) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers = np.array([found[row] for row in range(len(rows))])
    np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_serving_examples_takes_serialized_examples_as_base64(digits_server, rows, expected):
    import tensorflow as tf

    feature = tf.train.Feature(float_list=tf.train.FloatList(value=rows[0]))
    example = tf.train.Example(features=tf.train.Features(feature={"image": feature}))
    encoded = {"b64": base64.b64encode(example.SerializeToString()).decode()}
    for instance in (encoded, {"examples": encoded}):
        body = {"signature_name": "serving_examples", "instances": [instance]}
        status, answer = digits_server.send(PREDICT, body)
        assert status == 200
        np.testing.assert_allclose(answer["predictions"], expected[:1], atol=1e-5)


def test_a_broken_example_is_the_callers_error(digits_server):
    body = {"signature_name": "serving_examples", "instances": ["no example"]}
    status, answer = digits_server.send(PREDICT, body)
    assert status == 400
    assert "the model refuses the input: Could not parse example input" in answer["error"]


def test_classify_names_the_classes(digits_server, rows, expected):
    body = {"examples": [{"image": rows[0].tolist()}]}
    answer = digits_server.send("/v1/models/digits/versions/3:classify", body)[1]["results"][0]
    assert [label for label, _ in answer] == [str(digit) for digit in range(10)]
    np.testing.assert_allclose([score for _, score in answer], expected[0], atol=1e-5)


def test_metadata_shows_both_signatures(digits_server):
    body = digits_server.send("/v1/models/digits/metadata")[1]
    signatures = body["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "serving_examples"}
    image = signatures["serving_default"]["inputs"]["image"]
    assert [size["size"] for size in image["tensor_shape"]["dim"]] == ["-1", "64"]
    assert signatures["serving_examples"]["inputs"]["examples"]["dtype"] == "DT_STRING"


def test_variable_length_rows_are_batched_without_being_mixed(
    words_model, packed, launch, tmp_path
):
    package = packed(
        words_model,
        tmp_path / "4",
        pipeline="words",
        version=4,
        inputs={
            "words": InputSpec(dtype="string", is_variable_length=True),
            "ids": InputSpec(dtype="int64", is_variable_length=True),
            "scale": InputSpec(dtype="float32", default=1.0),
        },
        heads={"count": HeadConfig(task="regression")},
    )
    server = launch("--package", package, "--port", 0)
    server.wait_ready()
    path = "/v1/models/words:predict"
    mixed = [{"words": ["a"] * n, "ids": [100] * (n % 3), "scale": 4.0} for n in range(9)]
    answer = server.send(path, {"instances": mixed})
    assert answer == (200, {"predictions": [2.0 * n + 100 * (n % 3) for n in range(9)]})
    found = {}
    threads = [
        threading.Thread(
            target=lambda n=n: found.update({n: server.send(path, {"instances": [mixed[n]]})[1]})
        )
        for n in range(9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: a["predictions"][0] for n, a in found.items()} == {
        n: 2.0 * n + 100 * (n % 3) for n in range(9)
    }
    assert server.send(path, {"instances": [{"words": ["a"]}]})[1] == {"predictions": [1.0]}
    good, zero = {"words": ["a"]}, {"words": ["a"], "scale": 0}
    status, refused = server.send(path, {"instances": [good, zero]})
    assert status == 400
    assert refused["error"].startswith("instances[1].scale = 0: the model refuses the input: ")
    status, nan = server.send(path, {"inputs": {"words": [["a"]] * 2, "scale": [4, -1]}})
    assert status == 400
    assert nan["error"].startswith("inputs.scale[1] = -1: the model has no finite 'value'")


# --- nothing a caller sends harms it ------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["instances", "inputs", "image", "signature_name", "b64"]), inner
        )
    ),
    max_leaves=20,
)
VALID = {"instances": [{"image": [0.5] * 64}]}


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | JSON.map(lambda value: json.dumps({"instances": value}).encode())
    | JSON.map(lambda value: json.dumps({"inputs": {"image": value}}).encode())
    | st.floats(allow_nan=False).map(lambda x: json.dumps({"instances": [[x] * 64]}).encode()),
    method=st.sampled_from(["predict", "classify", "regress"]),
)
def test_no_body_makes_the_server_fail(digits_server, body, method):
    connection = http.client.HTTPConnection("127.0.0.1", digits_server.port, timeout=60)
    connection.request("POST", f"/v1/models/digits:{method}", body)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    assert answer.status in (200, 400), said
    connection.close()
    assert digits_server.process.poll() is None


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(noise=st.binary(min_size=1, max_size=300), place=st.integers(0, 200))
def test_no_bytes_on_the_socket_harm_it(digits_server, noise, place):
    body = json.dumps(VALID).encode()
    request = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (
        PREDICT.encode(),
        len(body),
        body,
    )
    broken = request[:place] + noise + request[place:]
    with socket.create_connection(("127.0.0.1", digits_server.port), timeout=60) as caller:
        caller.sendall(broken)
        caller.shutdown(socket.SHUT_WR)
        while caller.recv(65536):
            pass
    assert digits_server.send(PREDICT, VALID)[0] == 200


# --- dying --------------------------------------------------------------------------------------


def test_a_killed_server_gives_its_port_to_the_next(digits_package, launch):
    first = launch("--package", digits_package, "--port", 0)
    first.wait_ready()
    first.send(PREDICT, VALID)
    first.process.kill()
    first.process.wait()
    second = launch("--package", digits_package, "--port", first.port)
    second.wait_ready()
    assert second.send(PREDICT, VALID)[0] == 200


def test_sigterm_while_loading_ends_it_without_waiting_for_the_load(digits_package, launch):
    server = launch("--package", digits_package, "--port", 0)
    while "listening at" not in server.log.read_text():
        assert server.process.poll() is None
        time.sleep(0.02)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    assert "serving digits" not in server.log.read_text()


# --- token, TLS, prediction log, faults ---------------------------------------------------------


def test_a_token_and_tls(digits_package, launch, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the test's certificate, is not installed")
    key, certificate, token = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "token"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    token.write_text("s3cret\n")
    options = ["--certificate", certificate, "--key", key, "--token-file", token]
    options += ["--grpc-port", 0]
    server = launch("--package", digits_package, "--port", 0, *options)
    server.wait_ready()
    assert server.url.startswith("https://")
    with open_client(server.url, trusted=certificate) as http:
        assert http.post(PREDICT, json=VALID).status_code == 401
    with open_client(server.url, token="s3cret", trusted=certificate) as http:
        assert len(http.post(PREDICT, json=VALID).json()["predictions"][0]) == 10
    trusting, url = Connecting(trusted=certificate), f"grpcs://127.0.0.1:{server.grpc_port}"
    with Client(url, "digits", token="s3cret", connecting=trusting) as digits:
        assert digits.predict({"image": [[0.5] * 64]}).outputs["scores"].shape == (1, 10)
    with (
        Client(url, "digits", token="s3cret", connecting=Connecting(5)) as digits,
        pytest.raises(ServiceUnavailableError, match="UNAVAILABLE"),
    ):
        digits.predict({"image": [[0.5] * 64]})
    with (
        open_client(server.url, token="s3cret") as http,
        pytest.raises(httpx.ConnectError, match="certificate verify failed"),
    ):
        http.post(PREDICT, json=VALID)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0


def test_predictions_are_logged_and_flushed_when_draining(
    digits_package, launch, tmp_path, rows, expected
):
    folder = tmp_path / "predictions"
    server = launch("--package", digits_package, "--port", 0, "--predictions", folder)
    server.wait_ready()
    for number in range(20):
        body = {"instances": rows[number : number + 2].tolist()}
        server.send(PREDICT, body, {"x-request-id": f"r{number}"})
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    entries = [one for table in read_tables(folder) for one in predictions_of(table)]
    places = [(one.request_id, one.row) for one in entries]
    assert places == [(f"r{number}", row) for number in range(20) for row in (0, 1)]
    for number, entry in enumerate(entries):
        scores = expected[number // 2 + number % 2]
        assert entry.predicted == {"digit": scores.argmax()}
        np.testing.assert_allclose(entry.scores["digit"], scores, atol=1e-5)
        assert entry.confidence["digit"] == pytest.approx(scores.max(), abs=1e-5)


def test_a_rehearsal_fails_its_share_and_says_so(digits_model, packed, launch, tmp_path):
    package = packed(digits_model, tmp_path / "5", serve=ServeConfig(fault_ratio=0.25))
    server = launch("--package", package, "--port", 0)
    server.wait_ready()
    answers = [server.send(PREDICT, VALID)[0] for _ in range(40)]
    assert (answers.count(500), answers.count(200)) == (10, 30)
    assert "FAILS 25 % of its predictions ON PURPOSE" in server.log.read_text()


# --- refusals to start --------------------------------------------------------------------------


def run_until_exit(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-m", "serving.server", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    return done.returncode, done.stdout + done.stderr


def test_a_taken_port_is_said_with_exit_code_2(digits_package):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, text = run_until_exit("--package", digits_package, "--port", port)
    assert code == 2
    assert f"127.0.0.1:{port}: cannot listen there" in text
    assert "choose another --port" in text


def test_a_missing_package_is_said_with_exit_code_2(tmp_path):
    code, text = run_until_exit("--package", tmp_path / "9", "--port", 0)
    assert code == 2
    assert "no PackageManifest there" in text


def test_a_manifest_that_is_none_is_said_with_exit_code_2(tmp_path):
    (tmp_path / "package.json").write_text("{}")
    code, text = run_until_exit("--package", tmp_path, "--port", 0)
    assert code == 2
    assert "not a PackageManifest" in text


def test_a_package_without_its_model_is_said_with_exit_code_2(digits_package, tmp_path):
    shutil.copy(digits_package / "package.json", tmp_path)
    code, text = run_until_exit("--package", tmp_path, "--port", 0)
    assert code == 2
    assert "names the model 'model', which does not exist" in text


def test_a_changed_model_is_refused_by_its_digest(digits_model, packed, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(digits_model, copy)
    package = packed(copy, tmp_path / "6")
    with (copy / "saved_model.pb").open("ab") as file:
        file.write(b"\0")
    code, text = run_until_exit("--package", package, "--port", 0)
    assert code == 2
    assert "corrupt: its digest is sha256:" in text


def test_a_folder_that_is_no_saved_model_is_refused(packed, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "saved_model.pb").write_bytes(b"nonsense")
    code, text = run_until_exit("--package", packed(empty, tmp_path / "7"), "--port", 0)
    assert code == 2
    assert "not a SavedModel that loads" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": {"pixels": InputSpec(dtype="float32", shape=(64,))}}, "says {'pixels'"),
        ({"heads": {"price": HeadConfig(task="regression")}}, r"expected also ['value']"),
    ],
)
def test_a_model_unlike_its_manifest_is_refused(digits_model, packed, tmp_path, change, message):
    code, text = run_until_exit(
        "--package", packed(digits_model, tmp_path / "8", **change), "--port", 0
    )
    assert code == 2
    assert message in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--token-file", "/nowhere"], "--token-file /nowhere: cannot read the token"),
        (["--certificate", "/nowhere"], "expected both or none"),
        (["--certificate", "/nowhere", "--key", "/nowhere"], "--certificate /nowhere: unusable"),
        (["--host", "192.0.2.1"], "192.0.2.1:0: cannot listen there"),
    ],
)
def test_wrong_options_are_said_with_exit_code_2(digits_package, options, message):
    code, text = run_until_exit("--package", digits_package, "--port", 0, *options)
    assert code == 2
    assert message in text
