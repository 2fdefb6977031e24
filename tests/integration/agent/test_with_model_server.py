"""The same stack with the real model server and a small SavedModel."""

import gzip
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import warm
from two_scores import BODY, GrpcCaller, add_package, listener

from contract.prediction_log.reading import read_tables
from contract.records.package import PackageManifest
from contract.records.traffic import Shadow
from contract.storage import digest_directory
from contract.tokens import read_token
from launching.processes.forked_program import command_of
from launching.processes.warm_start import own_warm_parent
from slipway.client import Client

SERVER = (sys.executable, "-m", "serving.server")


def named_ports(stack: Any) -> dict[str, int]:
    """Return the ports of version 1's server."""
    text = (stack.settings.state_folder / "ports.json").read_text()
    return dict(json.loads(text)["ports"][stack.server(1)])


@pytest.fixture
def real_stack(make_stack):
    stack = make_stack(server_command=SERVER)
    add_package(stack, 1, (2.0, 1.0), grpc=True)
    add_package(stack, 2, (1.0, 2.0))
    return stack


@pytest.fixture
def warm_stack(make_stack: Callable[..., Any], warm_parent: Path, tmp_path: Path) -> Any:
    """The same, its servers forks of the warm parent of all tests."""
    stack = make_stack(server_command=warm.server_command(warm_parent, tmp_path / "home"))
    add_package(stack, 1, (2.0, 1.0))
    add_package(stack, 2, (1.0, 2.0))
    return stack


def test_grpc_is_split_copied_and_counted_like_rest(
    make_stack: Callable[..., Any], warm_parent: Path, tmp_path: Path
) -> None:
    callers = tmp_path / "callers"
    callers.write_text("open\n")
    command = warm.server_command(warm_parent, tmp_path / "home")
    stack = make_stack(server_command=command, data_plane_token_file=callers)
    add_package(stack, 1, (2.0, 1.0), grpc=True)
    add_package(stack, 2, (1.0, 2.0), grpc=True, fault_ratio=1.0)
    stack.serve({1: 100})
    caller = GrpcCaller(stack.settings.envoy_port, "open")
    with caller.channel:
        assert caller.call() == "1"  # the only pipeline
        assert caller.call(x_slipway_model="digits") == "1"
        assert caller.call(x_slipway_version="1") == "1"  # of no arm: not counted
        assert caller.call(token="wrong").startswith("UNAUTHENTICATED: ")
        nowhere = caller.call(x_slipway_model="digitz")
        assert nowhere.startswith("UNIMPLEMENTED: ")
        assert "no such pipeline here" in nowhere
        assert caller.call(float("inf")).startswith("INVALID_ARGUMENT: ")
        stack.until(lambda: stack.seen(1).requests == 3, "three calls counted")
        assert (stack.seen(1).errors, stack.seen(1).client_errors) == (0, 1)

        stack.serve({1: 100}, shadow=Shadow(version=2, percent=100))
        assert [caller.call() for _ in range(20)] == ["1"] * 20
        # HTTP says 200 to each of them
        stack.until(lambda: stack.seen(2).errors == 20, "20 copies failed")
        assert stack.seen(2).requests == 20

        stack.serve({1: 50, 2: 50})
        caller.statuses.clear()
        found = Counter(caller.call().partition(":")[0] for _ in range(40))
        assert found.keys() == {"1", "INTERNAL"}
        url = f"grpc://127.0.0.1:{stack.settings.envoy_port}"
        with Client(url, "digits", version=1, token="open") as digits:  # of no arm, past the split
            assert {digits.predict({"x": [1.0]}).version for _ in range(10)} == {1}
        stack.until(lambda: stack.seen(2).errors == 20 + found["INTERNAL"], "its errors counted")
        assert stack.seen(2).requests == 20 + found["INTERNAL"]
        stack.until(lambda: stack.seen(1).requests == 3 + 20 + found["1"], "those of stable")
        assert stack.seen(1).errors == 0
        stack.until(lambda: stack.seen(1).latency_total == 3 + 20 + found["1"], "all were timed")
    stack.until(lambda: {a for _, a in logged_arms(stack, 1)} == {"stable", ""}, "both in the log")


def test_from_shadow_to_promotion_with_the_real_server(real_stack, load_on) -> None:
    stack = real_stack
    stack.serve({1: 100})
    url = f"{stack.url}/v1/models/digits:predict"
    answer = httpx.post(url, json=BODY)
    assert answer.json()["predictions"] == [pytest.approx([0.7311, 0.2689], abs=1e-4)] * 2
    assert answer.headers["x-slipway-version"] == "1"
    ports = named_ports(stack)
    assert set(ports) == {"http", "grpc"}
    # nobody passes by the data plane
    passed_by = httpx.post(f"http://127.0.0.1:{ports['http']}/v1/models/digits:predict", json=BODY)
    assert passed_by.status_code == 401
    with (caller := GrpcCaller(ports["grpc"], "guessed")).channel:
        assert caller.call().startswith("UNAUTHENTICATED: ")
    token = read_token(stack.settings.server_token_file)
    with Client(f"grpc://127.0.0.1:{ports['grpc']}", "digits", token=token) as digits:
        scores = digits.predict({"x": [1.0]}).outputs["scores"]
    assert scores[0] == pytest.approx([0.7311, 0.2689], abs=1e-4)
    # a file of Slipway 0.1, where ports had no names
    stack.settings.state_folder.joinpath("ports.json").write_text(
        json.dumps({"ports": {stack.server(1): ports["http"]}})
    )

    stack.serve({1: 100}, shadow=Shadow(version=2, percent=100))
    for _ in range(20):
        httpx.post(url, json=BODY)
    # two rows a request, which is one sample; the versions never agree
    stack.until(lambda: stack.seen(2).compared == 20, "20 pairs")
    assert stack.seen(2).disagreements == 20

    with load_on(stack, body=BODY) as load:
        stack.serve({1: 50, 2: 50})
        stack.until(lambda: load.counted()["2"] > 20, "canary traffic")
        stack.serve({2: 100})
        stack.until(lambda: stack.observation().of(1) is None, "server 1 gone")
    assert load.failures() == {}
    assert stack.seen(2).errors == 0

    # A caller that names its version is of no arm, whatever it says.
    direct = f"{stack.url}/v1/models/digits/versions/2:predict"
    httpx.post(direct, json=BODY, headers={"x-slipway-arm": "canary", "x-request-id": "direct"})
    stack.until(lambda: ("direct", "") in logged_arms(stack, 2), "the direct request in the log")
    arms = {arm for _, arm in logged_arms(stack, 2)}
    assert arms == {"shadow", "canary", "stable", ""}
    assert {arm for _, arm in logged_arms(stack, 1)} == {"stable", ""}  # gRPC asks it directly


def logged_arms(stack, version: int) -> set[tuple[str, str]]:
    """Return request ids with the arm as which they reached a version."""
    tables = read_tables(stack.layout.predictions(version), columns=["request_id", "arm"])
    return {(row["request_id"], row["arm"]) for table in tables for row in table.to_pylist()}


def save_lookup(folder: Path, ids: int) -> None:
    """Save a model that looks the whole number `x` up in a table of so many rows."""
    import tensorflow as tf

    module = tf.Module()
    module.table = tf.Variable(tf.tile([[0.25, 0.75]], [ids, 1]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serving_default(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.gather(module.table, tf.cast(x, tf.int64))}

    module.serving_default = serving_default
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serving_default})


def test_a_shadow_that_refuses_what_stable_answers_is_counted(warm_stack) -> None:
    """Version 1 knows ids up to 9, version 2 up to 4; neither knows 99."""
    stack = warm_stack
    for version, ids in ((1, 10), (2, 5)):
        folder = stack.layout.version(version)
        shutil.rmtree(folder / "model")
        save_lookup(folder / "model", ids)
        manifest = PackageManifest.read(folder / "package.json")
        digest = digest_directory(folder / "model")
        manifest.model_copy(update={"digest": digest}).write(folder / "package.json")
    stack.serve({1: 100}, shadow=Shadow(version=2, percent=100))
    url, statuses = f"{stack.url}/v1/models/digits:predict", []
    for x in (1.0, 7.0, 99.0) * 5:
        answer = httpx.post(url, json={"instances": [{"x": 2.0}, {"x": x}]})
        statuses.append(answer.status_code)
        if x == 99.0:
            expected = "instances[1].x = 99: the model refuses the input: indices[0] = 99 is not in"
            assert answer.json()["error"].startswith(expected)
    assert statuses == [200, 200, 400] * 5
    stack.until(lambda: stack.seen(2).compared == 10, "10 pairs")
    stack.until(lambda: stack.seen(2).client_errors == 10, "the copies' answers")
    shadow, stable = stack.seen(2), stack.seen(1)
    assert (shadow.refused_alone, shadow.disagreements, shadow.errors) == (5, 5.0, 0)
    assert (stable.client_errors, stable.errors) == (5, 0)


def test_what_callers_may_send_passes_the_data_plane(make_stack, warm_parent, tmp_path) -> None:
    """Labels, gzip, a preflight without a token, and a target with scheme and host."""
    (tmp_path / "callers").write_text("s3cret\n")
    stack = make_stack(
        server_command=warm.server_command(warm_parent, tmp_path / "home"),
        data_plane_token_file=tmp_path / "callers",
    )
    page = "https://app.example.org"
    for version in (1, 2):
        add_package(stack, version, (2.0, 1.0), cors_origins=(page,))
    stack.serve({1: 90, 2: 10})
    known = {"authorization": "Bearer s3cret"}
    for label, expected in {"stable": "1", "canary": "2", "champion": "1"}.items():
        url = f"{stack.url}/v1/models/digits/labels/{label}:predict"
        for _ in range(5):
            answer = httpx.post(url, json=BODY, headers=known)
            assert (answer.status_code, answer.headers["x-slipway-version"]) == (200, expected)
    unknown = httpx.get(f"{stack.url}/v1/models/digits/labels/blue", headers=known)
    assert (unknown.status_code, "stable, champion, canary" in unknown.text) == (404, True)

    url = f"{stack.url}/v1/models/digits:predict"
    packed = gzip.compress(json.dumps(BODY).encode())
    zipped = httpx.post(url, content=packed, headers={**known, "content-encoding": "gzip"})
    assert (zipped.status_code, len(zipped.json()["predictions"])) == (200, 2)

    asked = {"origin": page, "access-control-request-method": "POST"}
    preflight = httpx.options(url, headers=asked)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, page)
    assert httpx.post(url, json=BODY, headers={"origin": page}).status_code == 401
    read = httpx.post(url, json=BODY, headers={"origin": page, **known})
    assert read.headers["access-control-allow-origin"] == page

    with socket.create_connection(("127.0.0.1", stack.settings.envoy_port), timeout=60) as caller:
        target = "http://models.example.org/v1/models/digits/versions/2"
        lines = ("host: models.example.org", "authorization: Bearer s3cret", "connection: close")
        caller.sendall(f"GET {target} HTTP/1.1\r\n".encode())
        caller.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        received = b"".join(iter(lambda: caller.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 200")
    assert b'"AVAILABLE"' in received


def test_a_killed_model_server_costs_callers_little(real_stack, load_on) -> None:
    stack = real_stack
    stack.serve({1: 100})
    with load_on(stack, callers=4, body=BODY) as load:
        time.sleep(0.5)
        killed = stack.kill(stack.server(1))
        stack.until(lambda: stack.pid(stack.server(1)) not in (0, killed), "server restarted")
        stack.until(lambda: stack.seen(1).is_ready, "ready again")
        recovered = len(load.answers)
        stack.until(lambda: len(load.answers) > recovered + 50, "traffic after the restart")
    failed = [answer for answer in load.answers if not answer.is_good]
    # One request a caller fails at once: those that the killed process had in hand. (Two, where a
    # busy machine is late in starting its successor.) The others wait for the successor.
    assert sum(answer.seconds < 2.0 for answer in failed) <= 2 * 4, failed


def test_a_corrupt_model_is_told_in_words(warm_stack) -> None:
    stack = warm_stack
    stack.serve({1: 100})
    (stack.layout.version(2) / "model" / "saved_model.pb").write_bytes(b"broken")
    stack.propose({1: 90, 2: 10})

    def is_told() -> bool:
        return any(
            "version 2" in problem and "corrupt" in problem
            for problem in stack.observation().problems
        )

    stack.until(is_told, "the corrupt model")
    assert httpx.post(f"{stack.url}/v1/models/digits:predict", json=BODY).status_code == 200


# --- forks of a warm parent ---------------------------------------------------------------------


def version_that_answers(stack: Any) -> str:
    answer = httpx.post(f"{stack.url}/v1/models/digits:predict", json=BODY, trust_env=False)
    return answer.headers.get("x-slipway-version", str(answer.status_code))


def log_of(stack: Any, version: int) -> str:
    return (stack.settings.logs_folder / f"{stack.server(version)}.log").read_text()


def test_a_forked_server_serves_is_restarted_after_each_kill_and_ends_when_it_is_told(
    warm_stack: Any,
) -> None:
    stack = warm_stack
    stack.serve({1: 100})
    assert version_that_answers(stack) == "1"
    for is_server in (False, True):  # the supervised process, then the server itself
        port, before = stack.server_port(1), stack.pid(stack.server(1))
        server = listener(port)
        assert server.pid != before
        os.kill(server.pid if is_server else before, signal.SIGKILL)
        stack.until(lambda b=before: stack.pid(stack.server(1)) not in (0, b), "restarted")
        stack.until(lambda: version_that_answers(stack) == "1", "answers again")
        stack.until(lambda s=server: not s.is_running(), "the first one is gone")
    last = listener(stack.server_port(1))
    stack.serve({2: 100})
    stack.until(lambda: not last.is_running(), "version 1 has ended")
    assert "drained: 0 requests cut off" in log_of(stack, 1)
    assert "fresh process" not in log_of(stack, 1) + log_of(stack, 2)


@pytest.fixture
def own_parent(tmp_path: Path) -> Iterator[Path]:
    """A warm parent that a test may kill."""
    with own_warm_parent(warm.environment_of(), tmp_path / "warm.log", ("tensorflow",)) as socket:
        yield socket


def test_servers_outlive_the_warm_parent_and_later_ones_are_fresh(
    make_stack: Callable[..., Any], own_parent: Path
) -> None:
    stack = make_stack(server_command=command_of(own_parent, SERVER))
    add_package(stack, 1, (2.0, 1.0))
    add_package(stack, 2, (1.0, 2.0))
    stack.serve({1: 100})
    (parent,) = (p for p in psutil.Process().children() if str(own_parent) in str(p.cmdline()))
    parent.kill()
    parent.wait()
    assert version_that_answers(stack) == "1"
    stack.serve({2: 100})
    assert version_that_answers(stack) == "2"
    assert f"INFO started as a fresh process: no answer at {own_parent}" in log_of(stack, 2)
    assert listener(stack.server_port(2)).pid == stack.pid(stack.server(2))
