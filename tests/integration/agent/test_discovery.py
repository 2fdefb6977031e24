"""Envoys that ask for their configuration: two real ones, as pods would be, on one machine."""

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from contract.errors import ServiceUnavailableError
from contract.free_ports import free_port
from contract.records.traffic import Arm, TrafficPlan
from serving.agent.api import DISCOVERY
from serving.agent.backends.discovery_api import discovery_api
from serving.agent.backends.envoy_keeper import EnvoyKeeper
from serving.traffic.backend import Endpoint, PipelineTraffic
from serving.traffic.envoy.discovery import DiscoveryChannel
from serving.traffic.envoy.envoy import Envoy
from serving.traffic.envoy.listener import ListenerOptions

TOKEN = "only for Envoys"


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(0.05)


class Fleet:
    """A discovery service, two versions that say their number, and Envoys."""

    def __init__(self, folder: Path) -> None:
        self.gone: set[str] = set()
        self.channel = DiscoveryChannel(self.gone.__contains__)
        self.port = free_port()
        options = ListenerOptions("127.0.0.1", self.port, timeout_seconds=10.0)
        self.keeper = EnvoyKeeper(self.channel.instances)
        self.backend = Envoy(self.channel, options, 10.0, self.keeper.is_silent)
        self._token_file = folder / "token"
        self._token_file.write_text(TOKEN)
        self._api = self._serve_api()
        self._servers = {version: _server(version) for version in (1, 2)}
        ports = {version: one.server_port for version, one in self._servers.items()}
        self.places = {version: Endpoint("127.0.0.1", port) for version, port in ports.items()}
        self._envoys: list[subprocess.Popen[bytes]] = []

    def _serve_api(self) -> uvicorn.Server:
        app = FastAPI()
        app.mount(DISCOVERY, discovery_api(self.channel, TOKEN))
        self.api_port = free_port()
        server = uvicorn.Server(uvicorn.Config(app, port=self.api_port, log_level="error"))
        threading.Thread(target=server.run, daemon=True).start()
        return server

    def start_envoy(self, host: str) -> subprocess.Popen[bytes]:
        """Start an Envoy that calls itself by a loopback address of its own."""
        words = ["--agent", f"127.0.0.1:{self.api_port}", "--agent-token-file", self._token_file]
        words += ["--host", host, "--stats-port", free_port()]
        command = [sys.executable, "-m", "serving.traffic", *map(str, words)]
        self._envoys.append(subprocess.Popen(command))
        return self._envoys[-1]

    def apply(self, generation: int, weight: int) -> None:
        arms = (
            Arm(name="stable", version=1, weight_percent=100 - weight),
            Arm(name="canary", version=2, weight_percent=weight),
        )
        plan = TrafficPlan(pipeline="digits", generation=generation, arms=arms)
        self.backend.apply([PipelineTraffic(plan, self.places)])

    def ask(self, count: int) -> Counter[str]:
        """Send requests, each on a connection of its own, so that the Envoys share them."""
        answers: Counter[str] = Counter()
        for _ in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            connection.request("POST", "/v1/models/digits:predict", "{}")
            answers[connection.getresponse().read().decode()] += 1
            connection.close()
        return answers

    def counted(self) -> int:
        return sum(one.requests for one in self.backend.observe().values())

    def close(self) -> None:
        for envoy in self._envoys:
            envoy.kill()
            envoy.wait()
        for server in self._servers.values():
            server.shutdown()
        self._api.should_exit = True


def _server(version: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.do_GET()

        def do_GET(self) -> None:
            body = str(version).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.close()


def test_without_an_envoy_nothing_follows(fleet: Fleet) -> None:
    with pytest.raises(ServiceUnavailableError, match="no Envoy has asked"):
        fleet.apply(1, 0)


def test_all_envoys_follow_and_their_counters_add_up(fleet: Fleet) -> None:
    envoys = [fleet.start_envoy("127.0.0.1") for _ in range(2)]
    until(lambda: len(fleet.channel._asked) == 2)
    fleet.apply(1, 0)
    assert fleet.ask(40) == {"1": 40}
    fleet.apply(2, 50)
    mixed = fleet.ask(100)
    assert set(mixed) == {"1", "2"}
    began = time.monotonic()
    fleet.apply(3, 0)
    assert time.monotonic() - began < 2.0
    assert fleet.ask(60) == {"1": 60}
    until(lambda: fleet.counted() == 200)
    os.kill(envoys[0].pid, signal.SIGKILL)
    envoys[0].wait()
    assert fleet.counted() == 200  # what the dead one had counted stays
    until(lambda: fleet.ask(1) == {"1": 1})
    with pytest.raises(ServiceUnavailableError):
        fleet.apply(4, 100)  # nobody can say yet that it is gone
    fleet.gone.add("127.0.0.1")
    until(lambda: len(fleet.channel.instances()) == 1)
    fleet.apply(5, 100)
    assert fleet.ask(20) == {"2": 20}


def test_an_envoy_that_knows_no_host_says_so_and_blames_no_version(fleet: Fleet) -> None:
    """The name is one that no name server may know (RFC 7686), so no network is asked."""
    fleet.start_envoy("127.0.0.1")
    until(lambda: bool(fleet.channel._asked))
    one, two = ("digits", 1), ("digits", 2)
    fleet.places[2] = Endpoint("nowhere.onion", 1)
    fleet.apply(1, 0)
    until(lambda: fleet.backend.hosts([one])[one].healthy == 1)
    seen = fleet.backend.hosts([one, two])
    assert (seen[one].lost_at, seen[two].healthy) == ("", 0)
    assert seen[two].lost_at == seen[two].at
    unknown = fleet.backend.hosts([("digits", 3)])["digits", 3]
    assert (unknown.healthy, unknown.lost_at) == (0, "")
    fleet.apply(2, 100)
    refused = fleet.ask(20)
    assert sum(refused.values()) == 20
    assert refused["2"] == 0
    until(lambda: fleet.backend.observe()[two].unreached == 20)
    counted = fleet.backend.observe()[two]
    assert (counted.requests, counted.errors) == (0, 0)


def test_one_that_hangs_is_not_waited_for(fleet: Fleet) -> None:
    envoys = [fleet.start_envoy(host) for host in ("127.0.0.1", "127.0.0.2")]
    until(lambda: len(fleet.channel._asked) == 2)
    fleet.apply(1, 0)
    envoys[1].send_signal(signal.SIGSTOP)
    name = next(one.name for one in fleet.channel.instances() if one.name.startswith("127.0.0.2"))
    with pytest.raises(ServiceUnavailableError, match=f"{name} does not answer"):
        fleet.apply(2, 0)
    while not fleet.keeper.is_silent(name):
        fleet.keeper.look()
    fleet.apply(3, 100)
    envoys[1].send_signal(signal.SIGCONT)
    until(lambda: fleet.ask(40) == {"2": 40})


def test_an_envoy_goes_on_while_nobody_answers_it(fleet: Fleet) -> None:
    fleet.start_envoy("127.0.0.1")
    until(lambda: bool(fleet.channel._asked))
    fleet.apply(1, 0)
    fleet._api.should_exit = True
    time.sleep(3)
    assert fleet.ask(20) == {"1": 20}


@pytest.mark.parametrize(
    ("token", "path", "body", "status"),
    [
        ("wrong", "/v3/discovery:clusters", "{}", 401),
        (TOKEN, "/v3/discovery:secrets", "{}", 404),
        (TOKEN, "/v3/discovery:clusters", "{}", 400),
        (TOKEN, "/v3/discovery:clusters", '{"node": {"id": "nowhere"}}', 400),
    ],
)
def test_other_questions_are_refused(
    fleet: Fleet, token: str, path: str, body: str, status: int
) -> None:
    until(lambda: fleet._api.started)
    connection = http.client.HTTPConnection("127.0.0.1", fleet.api_port, timeout=60)
    connection.request("POST", path, body, {"authorization": f"Bearer {token}"})
    assert connection.getresponse().status == status
