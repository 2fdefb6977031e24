"""Envoys that take connections and answer nothing are left out first, and ended later."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from contract.errors import ServiceUnavailableError
from serving.agent.backends import envoy_keeper
from serving.agent.backends.envoy_keeper import KUBELETS_SECONDS, EnvoyKeeper, ask_envoy
from serving.traffic.backend import Endpoint
from serving.traffic.envoy.admin import EnvoyAdmin
from serving.traffic.envoy.files import FileChannel


class Admin(BaseHTTPRequestHandler):
    """An admin port that is ready, while somebody handles its requests."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def admin() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Admin) as server:
        yield server


def answered(server: HTTPServer, look: Callable[[], object]) -> None:
    """Look while the server handles one request."""
    handling = threading.Thread(target=server.handle_request)
    handling.start()
    look()
    handling.join()


def test_one_that_hangs_is_left_out_after_two_seconds_and_ended_after_eight(
    admin, monkeypatch
) -> None:
    now, ended = [100.0], list[str]()
    one = EnvoyAdmin(Endpoint("127.0.0.1", admin.server_port))
    keeper = EnvoyKeeper(lambda: [one], ended.append, lambda: now[0])
    answered(admin, keeper.look)
    monkeypatch.setattr(envoy_keeper, "TIMEOUT_SECONDS", 0.05)
    found = {}
    for seconds in (101, 102, 103, 108, 109, 110):
        now[0] = seconds
        keeper.look()
        found[seconds] = (keeper.is_silent(one.name), len(ended))
    assert found == {
        101: (False, 0),  # the first look without an answer
        102: (False, 0),
        103: (True, 0),
        108: (True, 0),
        109: (True, 1),
        110: (True, 1),  # it has time to start again
    }
    assert ended == [one.name]


def test_one_that_a_kubelet_replaces_is_waited_for_as_long_as_that_takes(
    admin, monkeypatch
) -> None:
    now = [100.0]
    one = EnvoyAdmin(Endpoint("127.0.0.1", admin.server_port))
    keeper = EnvoyKeeper(lambda: [one], clock=lambda: now[0], left_out_seconds=KUBELETS_SECONDS)
    monkeypatch.setattr(envoy_keeper, "TIMEOUT_SECONDS", 0.05)
    found = []
    for seconds in (101, 130, 131):
        now[0] = seconds
        keeper.look()
        found.append(keeper.is_silent(one.name))
    assert found == [False, False, True]


def test_without_an_envoy_there_is_nothing_to_keep() -> None:
    def none() -> list[EnvoyAdmin]:
        raise ServiceUnavailableError("no Envoy has asked")

    keeper = EnvoyKeeper(none)
    keeper.look()
    assert not keeper.is_silent("127.0.0.1:1")


@pytest.mark.parametrize(("host", "answer"), [("127.0.0.1", "silent"), ("192.0.2.7", "gone")])
def test_one_elsewhere_that_cannot_be_reached_may_serve_all_the_same(
    monkeypatch, host: str, answer: str
) -> None:
    def too_late(_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(http.client.HTTPConnection, "connect", too_late)
    assert ask_envoy(host, EnvoyAdmin(Endpoint(host, 1))) == answer


def test_one_that_takes_no_more_connections_is_ended_though_nobody_waits_for_it(
    admin, monkeypatch, tmp_path
) -> None:
    threading.Thread(target=admin.serve_forever, kwargs={"poll_interval": 0.01}).start()
    monkeypatch.setattr(envoy_keeper, "TIMEOUT_SECONDS", 0.2)
    now, ended = [0.0], list[str]()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as hung:
        port = hung.getsockname()[1]
        channel = FileChannel(
            tmp_path, [Endpoint("127.0.0.1", one) for one in (port, admin.server_port)]
        )
        keeper = EnvoyKeeper(lambda: channel.admins, ended.append, lambda: now[0])
        for seconds in range(0, 100, 10):  # the queue is full after the first ones
            now[0] = float(seconds)
            keeper.look()
    admin.shutdown()
    assert ended == [f"127.0.0.1:{port}"]


def test_a_hung_one_of_this_machine_is_silent_also_when_its_socket_takes_no_more(tmp_path) -> None:
    one = EnvoyAdmin(tmp_path / "envoy.sock")
    assert ask_envoy(one.name, one) == "gone"
    with socket.socket(socket.AF_UNIX) as hung, contextlib.ExitStack() as callers:
        hung.bind(one.name)
        hung.listen(0)
        waiting = callers.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(one.name)
        assert ask_envoy(one.name, one) == "silent"
