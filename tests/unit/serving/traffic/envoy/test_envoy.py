"""What Envoys are asked about, against a stand-in for their admin ports."""

import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from serving.traffic.backend import Endpoint, VersionCounters
from serving.traffic.envoy.admin import EnvoyAdmin
from serving.traffic.envoy.envoy import Envoy
from serving.traffic.envoy.listener import ListenerOptions
from serving.traffic.envoy.stats import counters_filter

TEXT = """\
# TYPE envoy_server_uptime gauge
envoy_server_uptime{} 60
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="digits/1"} 90
"""


@pytest.fixture
def asked() -> Iterator[tuple[Envoy, list[str]]]:
    """Return a backend of one Envoy, and the patterns that this is asked for."""
    patterns = list[str]()

    class Admin(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            patterns.extend(parse_qs(urlsplit(self.path).query)["filter"])
            self.send_response(200)
            self.send_header("content-length", str(len(TEXT)))
            self.end_headers()
            self.wfile.write(TEXT.encode())

        def log_message(self, *_: object) -> None: ...

    class OneEnvoy:
        def __init__(self, port: int) -> None:
            self._admin = EnvoyAdmin(Endpoint("127.0.0.1", port))

        def instances(self) -> Sequence[EnvoyAdmin]:
            return [self._admin]

    with ThreadingHTTPServer(("127.0.0.1", 0), Admin) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        channel: Any = OneEnvoy(server.server_port)
        yield Envoy(channel, ListenerOptions("127.0.0.1", 1, timeout_seconds=1.0)), patterns
        server.shutdown()


def test_a_judges_question_asks_for_its_own_pipeline_only(asked) -> None:
    backend, patterns = asked
    assert backend.observe("digits") == {("digits", 1): VersionCounters(90)}
    backend.observe()
    assert patterns == [counters_filter("digits"), counters_filter()]
