"""Calls of a scripted service: proxies, tokens, and what its refusals become."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from contract.clients.http import error_of, no_answer, open_client, reason_of
from contract.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    ServiceUnavailableError,
    SlipwayError,
    UserError,
)

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def heard() -> list[tuple[str, str | None]]:
    return []


@pytest.fixture
def service(heard: list[tuple[str, str | None]]) -> Iterator[str]:
    """Start a server that keeps the target and the token of each request; return its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append((self.path, self.headers["authorization"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def proxy(service: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes the environment name the server as a proxy."""

    def use(scheme: str) -> None:
        for name in PROXIES:
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://{service}")

    return use


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_service_of_this_machine_is_called_past_the_proxy(
    service: str, heard: list[object], proxy: Callable[[str], None], host: str
) -> None:
    proxy("http")
    with open_client(f"http://{host}:{service.rpartition(':')[2]}") as http:
        http.get("/healthz")
    assert heard == [("/healthz", None)]


def test_every_loopback_address_is_of_this_machine(
    heard: list[object], proxy: Callable[[str], None]
) -> None:
    proxy("http")
    with open_client("http://127.0.0.2:1") as http, pytest.raises(httpx.ConnectError):
        http.get("/")
    assert heard == []


def test_any_other_service_is_called_through_the_proxy(
    heard: list[object], proxy: Callable[[str], None]
) -> None:
    proxy("http")
    with open_client("http://mlflow.example:5000", token="let me in") as http:
        assert http.get("/health").is_success
    assert heard == [("http://mlflow.example:5000/health", "Bearer let me in")]


def test_a_proxy_that_cannot_be_used_is_refused_only_where_it_is_needed(
    service: str, proxy: Callable[[str], None]
) -> None:
    proxy("gopher")
    with open_client(f"http://{service}") as http:
        assert http.get("/").is_success
    with pytest.raises(
        ConfigError,
        match="mlflow.example: the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names: .*gopher",
    ):
        open_client("http://mlflow.example")


def test_nobody_there_is_said_with_the_next_step() -> None:
    with (
        open_client("http://127.0.0.1:1", timeout_seconds=2.0) as http,
        pytest.raises(httpx.TransportError) as refused,
    ):
        http.get("/")
    said = str(no_answer("MLflow", refused.value, "start it with 'slipway up'"))
    assert said == "MLflow: no answer: [Errno 111] Connection refused; start it with 'slipway up'"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"error": "no such model"}', "no such model"),
        ('{"detail": "a run of this id"}', "a run of this id"),
        ('{"other": 1}', '{"other": 1}'),
        ("[1]", "[1]"),
        ('"error"', '"error"'),
        ("<html>" + "x" * 400, "<html>" + "x" * 294),
        ("", "no reason given"),
    ],
)
def test_the_reason_is_what_the_service_says(body: str, reason: str) -> None:
    assert reason_of(httpx.Response(400, text=body)) == reason


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UserError),
        (404, NotFoundError),
        (409, ConflictError),
        (422, UserError),
        (500, ServiceUnavailableError),
        (503, ServiceUnavailableError),
    ],
)
def test_a_status_has_its_error(status: int, kind: type[SlipwayError]) -> None:
    error = error_of(httpx.Response(status, text=json.dumps({})), "words")
    assert (type(error), str(error)) == (kind, "words")
