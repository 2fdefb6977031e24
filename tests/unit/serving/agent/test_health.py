import random
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from serving.agent import health
from serving.agent.health import HealthProber, ask_server
from serving.traffic.backend import Endpoint

DIGITS = ("digits", 2)


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    """Return a function that starts a server which answers with a status and a version."""
    servers = []

    def start(status: int, version: str, host: str = "127.0.0.1", port: int = 0) -> Endpoint:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/healthz" else 404)
                self.send_header("x-slipway-version", version)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer((host, port), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return Endpoint(host, server.server_port)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_server_of_the_version_that_says_200_is_ready(serve) -> None:
    prober = HealthProber(ask_server)
    endpoints = {DIGITS: serve(200, "2")}
    assert not prober.is_ready(DIGITS)
    assert prober.probe(endpoints)
    assert prober.is_ready(DIGITS)
    assert not prober.probe(endpoints)  # nothing new


@pytest.fixture
def name_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that gives addresses a common name, as the cluster's DNS does."""
    real = socket.getaddrinfo

    def give(*addresses: str) -> str:
        def look_up(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
            hosts = addresses if host == "digits.svc" else (host,)
            return [found for one in hosts for found in real(one, port, *args, **kwargs)]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        return "digits.svc"

    return give


@pytest.mark.parametrize("order", [("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1")])
@pytest.mark.parametrize(("status", "is_ready"), [(200, True), (503, False)])
def test_one_ready_replica_of_a_name_is_enough(serve, name_of, order, status, is_ready) -> None:
    loading = serve(503, "2", "127.0.0.1")
    serve(status, "2", "127.0.0.2", loading.port)
    prober = HealthProber(ask_server)
    prober.probe({DIGITS: Endpoint(name_of(*order), loading.port)})
    assert prober.is_ready(DIGITS) is is_ready


def test_a_replica_that_hangs_makes_no_version_silent_whose_other_answers(
    serve, name_of, monkeypatch
) -> None:
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 0.5)
    port = serve(200, "2").port
    with socket.socket() as listening:  # the kernel takes connections; nobody reads them
        listening.bind(("127.0.0.2", port))
        listening.listen()
        name = name_of("127.0.0.2", "127.0.0.1", "127.0.0.3")  # at the last one nobody listens
        assert ask_server(DIGITS, Endpoint(name, port)) == "ready"
        assert ask_server(DIGITS, Endpoint(name_of("127.0.0.2", "127.0.0.3"), port)) == "silent"


def test_at_most_eight_replicas_are_asked_and_not_always_the_same(name_of) -> None:
    endpoint = Endpoint(name_of(*(f"127.0.1.{last}" for last in range(1, 21))), 9)
    random.seed(1)
    asked = [health._addresses(endpoint) for _ in range(10)]
    assert {len(set(addresses)) for addresses in asked} == {8}
    assert len({address for addresses in asked for address in addresses}) == 20


def test_a_name_that_nobody_knows_is_gone(monkeypatch) -> None:
    def look_up(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert ask_server(DIGITS, Endpoint("digits.svc", 9)) == "gone"


@pytest.mark.parametrize(("status", "version"), [(503, "2"), (200, "3")])
def test_one_that_loads_or_is_another_version_is_not(serve, status, version) -> None:
    prober = HealthProber(ask_server)
    prober.probe({DIGITS: serve(status, version)})
    assert not prober.is_ready(DIGITS)


def test_one_that_takes_connections_and_does_not_answer_is_silent() -> None:
    now = [100.0]
    prober = HealthProber(ask_server, lambda: now[0])
    with socket.socket() as listening:  # the kernel takes connections; nobody reads them
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        endpoint = Endpoint("127.0.0.1", listening.getsockname()[1])
        prober.probe({DIGITS: endpoint})
        now[0] += 7.0
        assert prober.silent_seconds(DIGITS) == 0.0  # nobody has asked again
        prober.probe({DIGITS: endpoint})
        now[0] += 100.0
    assert prober.silent_seconds(DIGITS) == 7.0
    assert not prober.is_ready(DIGITS)
    prober.probe({DIGITS: endpoint})  # gone
    assert prober.silent_seconds(DIGITS) == 0.0


def test_a_server_that_was_gone_has_to_start_again(serve) -> None:
    prober = HealthProber(ask_server)
    endpoint = serve(200, "2")
    prober.probe({DIGITS: endpoint})
    assert (prober.was_ready(DIGITS), prober.has_started(DIGITS)) == (True, True)
    prober.probe({DIGITS: Endpoint("127.0.0.1", 9)})
    assert (prober.was_ready(DIGITS), prober.has_started(DIGITS)) == (True, False)


def test_one_that_has_gone_is_not_ready_any_more(serve) -> None:
    prober = HealthProber(ask_server)
    prober.probe({DIGITS: serve(200, "2")})
    assert prober.probe({DIGITS: Endpoint("127.0.0.1", 9)})
    assert not prober.is_ready(DIGITS)
