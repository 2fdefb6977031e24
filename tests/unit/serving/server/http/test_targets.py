"""Targets as callers write them, labels, and what browsers ask with OPTIONS."""

import socket

import pytest

from contract.schema.serving import ServeConfig
from serving.server.http.targets import path_of
from serving.server.options import parse

PREDICT = "/v1/models/doubling:predict"
PAGE = "https://app.example.org"
PREFLIGHT = {"origin": PAGE, "access-control-request-method": "POST"}


def raw(server, target: str, method: str = "GET") -> tuple[int, str]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
        caller.sendall(
            f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        )
        received = b"".join(iter(lambda: caller.recv(65536), b"")).decode()
    return int(received.split()[1]), received


# --- the absolute form --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/v1/models/a?x=/b", b"/v1/models/a"),
        (b"http://host:8501/v1/models/a:predict", b"/v1/models/a:predict"),
        (b"HTTPS://user@[::1]:8501/healthz?a=b", b"/healthz"),
        (b"http://host", b"/"),
        (b"http://host?a=b", b"/"),
        (b"http:///healthz", b"/healthz"),
        (b"*", b"*"),
        (b"ftp://host/healthz", b"ftp://host/healthz"),
        (b"/http://host/healthz", b"/http://host/healthz"),
    ],
)
def test_the_path_of_a_target(target, path):
    assert path_of(target) == path


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8501", "other.example.org"])
def test_a_target_with_scheme_and_host_is_served(server, host):
    assert raw(server, f"http://{host}/healthz")[0] == 200
    assert raw(server, f"http://{host}/v1/models/doubling")[0] == 200
    assert raw(server, f"http://{host}/nothing")[0] == 404


@pytest.mark.parametrize(("target", "status"), [("localhost:80", 404), ("healthz", 400)])
def test_a_target_in_no_form_of_ours_is_refused(server, target, status):
    assert raw(server, target, "CONNECT" if ":" in target else "GET")[0] == status


# --- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["predict", "regress"])
def test_a_version_answers_under_its_label(server, verb):
    key = "instances" if verb == "predict" else "examples"
    answer = server.send("POST", f"/v1/models/doubling/labels/stable:{verb}", {key: [{"x": 4}]})
    assert (answer[0], *answer[2].values()) == (200, [8.0])


def test_status_and_metadata_are_found_under_a_label(server):
    status = server.send("GET", "/v1/models/doubling/labels/stable")
    assert status[2]["model_version_status"][0]["version"] == "7"
    metadata = server.send("GET", "/v1/models/doubling/labels/stable/metadata")
    assert metadata[2]["model_spec"]["version"] == "7"


@pytest.mark.parametrize("rest", ["", "/metadata", ":predict"])
def test_an_unknown_label_is_named_with_those_known(serve, manifest, engine, rest):
    with serve(manifest(), engine, labels=("stable", "blue")) as server:
        assert server.send("GET", "/v1/models/doubling/labels/blue")[0] == 200
        answer = server.send("GET", f"/v1/models/doubling/labels/green{rest}")
    assert (answer[0], answer[2]["error"]) == (
        404,
        "label 'green': not one of version 7 of 'doubling', which has 'stable', 'blue'",
    )


def test_labels_come_from_the_command_line():
    def labels(*words: str) -> tuple[str, ...]:
        return parse(["--package", "p", "--port", "0", *words], "program", None).labels

    assert labels() == ("stable",)
    assert labels("--label", "blue", "--label", "green") == ("blue", "green")


# --- OPTIONS and other origins ------------------------------------------------------------------


@pytest.fixture
def open_server(serve, manifest, engine):
    config = ServeConfig(cors_origins=(PAGE, "http://localhost:3000"))
    with serve(manifest(serve=config), engine, token="s3cret") as running:
        yield running


def test_options_says_what_a_path_takes(server):
    status, headers, body = server.send("OPTIONS", PREDICT)
    assert (status, headers["allow"], body) == (200, "POST, OPTIONS", b"")
    assert headers["content-length"] == "0"
    assert server.send("OPTIONS", "/healthz")[1]["allow"] == "GET, HEAD, OPTIONS"
    assert server.send("OPTIONS", "*")[1]["allow"] == "GET, HEAD, POST, OPTIONS"
    assert server.send("OPTIONS", "http://proxied.example.org")[0] == 200  # the server's too
    assert server.send("OPTIONS", "/nothing")[0] == 404


def test_without_origins_in_the_config_no_page_is_let_in(server):
    for headers in (
        server.send("OPTIONS", PREDICT, None, PREFLIGHT)[1],
        server.send("POST", PREDICT, {"instances": [1]}, {"origin": PAGE})[1],
    ):
        assert not [name for name in headers if name.startswith("access-control")]


def test_a_preflight_is_answered_without_a_token(open_server):
    status, headers, _ = open_server.send("OPTIONS", PREDICT, None, PREFLIGHT)
    assert status == 200
    assert headers["access-control-allow-origin"] == PAGE
    assert headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert "authorization" in headers["access-control-allow-headers"]
    assert headers["vary"] == "origin"


def test_a_page_of_an_allowed_origin_may_read_answers_and_refusals(open_server):
    body = {"instances": [1]}
    for token, expected in (("s3cret", 200), ("wrong", 401)):
        given = {"origin": "http://localhost:3000", "authorization": f"Bearer {token}"}
        status, headers, _ = open_server.send("POST", PREDICT, body, given)
        assert (status, headers["access-control-allow-origin"]) == (expected, given["origin"])
        assert "x-slipway-version" in headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example.org", f"{PAGE}.evil.org", f"{PAGE}/", "null", PAGE.upper()]
)
def test_a_page_of_another_origin_is_not_let_in(open_server, origin):
    headers = open_server.send("OPTIONS", PREDICT, None, {**PREFLIGHT, "origin": origin})[1]
    assert "access-control-allow-origin" not in headers
    assert headers["vary"] == "origin"


def test_a_star_lets_every_page_in(serve, manifest, engine):
    with serve(manifest(serve=ServeConfig(cors_origins=("*",))), engine) as server:
        headers = server.send("OPTIONS", PREDICT, None, PREFLIGHT)[1]
    assert headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("origin", ["app.example.org", "https://a.org/", "https://a b", ""])
def test_an_origin_that_no_browser_sends_is_refused_in_the_config(origin):
    with pytest.raises(ValueError, match="cors_origins"):
        ServeConfig(cors_origins=(origin,))
