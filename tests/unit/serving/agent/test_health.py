import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serving.agent.health import HealthProber
from serving.traffic.backend import Endpoint

DIGITS = ("digits", 2)


@pytest.fixture
def serve() -> Iterator[Callable[[int, str], Endpoint]]:
    """Return a function that starts a server which answers with a status and a version."""
    servers = []

    def start(status: int, version: str) -> Endpoint:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/healthz" else 404)
                self.send_header("x-slipway-version", version)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return Endpoint("127.0.0.1", server.server_port)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_server_of_the_version_that_says_200_is_ready(serve) -> None:
    prober = HealthProber()
    endpoints = {DIGITS: serve(200, "2")}
    assert not prober.is_ready(DIGITS)
    assert prober.probe(endpoints)
    assert prober.is_ready(DIGITS)
    assert not prober.probe(endpoints)  # nothing new


@pytest.mark.parametrize(("status", "version"), [(503, "2"), (200, "3")])
def test_one_that_loads_or_is_another_version_is_not(serve, status, version) -> None:
    prober = HealthProber()
    prober.probe({DIGITS: serve(status, version)})
    assert not prober.is_ready(DIGITS)


def test_one_that_has_gone_is_not_ready_any_more(serve) -> None:
    prober = HealthProber()
    prober.probe({DIGITS: serve(200, "2")})
    assert prober.probe({DIGITS: Endpoint("127.0.0.1", 9)})
    assert not prober.is_ready(DIGITS)
