"""A server process that goes: who is in flight, who comes late, who has nowhere else to go."""

import contextlib
import http.client
import json
import signal
import socket
import threading
import time

import httpx

from contract.schema.serving import ServeConfig

PREDICT = "/v1/models/digits:predict"
VALID = {"instances": [{"image": [0.0] * 64}]}


class Load(threading.Thread):
    """One caller on one keep-alive connection, until it is told to leave by an answer."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port, self.answered, self.lost = port, 0, 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = json.dumps(VALID)
        while True:
            try:
                connection.request("POST", PREDICT, body)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                self.lost += 1
                return
            self.answered += answer.status == 200
            if answer.getheader("connection") == "close":
                return


def test_draining_under_load_loses_no_request(digits_package, launch):
    server = launch("--package", digits_package, "--port", 0)
    server.wait_ready()
    callers = [Load(server.port) for _ in range(16)]
    for caller in callers:
        caller.start()
    until = time.monotonic() + 120
    while min(caller.answered for caller in callers) < 10:
        assert time.monotonic() < until
        time.sleep(0.05)
    stopped = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    for caller in callers:
        caller.join(60)
    assert server.process.wait(60) == 0
    assert time.monotonic() - stopped < ServeConfig().drain_seconds
    assert [caller.lost for caller in callers] == [0] * 16
    assert "drained: 0 requests cut off" in server.log.read_text()


def test_draining_ends_health_at_once_and_closes_idle_connections(digits_package, launch):
    server = launch("--package", digits_package, "--port", 0, "--leave-seconds", 4)
    server.wait_ready()
    idle = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    assert server.send("/healthz")[0] == 200
    server.process.send_signal(signal.SIGTERM)
    while (answer := server.send("/healthz"))[0] == 200:  # the port is closed after 4 s
        time.sleep(0.01)
    assert answer == (503, {"status": "draining"})
    assert server.process.wait(60) == 0
    assert idle.recv(100) == b""


def test_draining_answers_who_waited_to_be_accepted_while_the_server_had_no_processor(
    digits_package, launch
):
    server = launch("--package", digits_package, "--port", 0, "--leave-seconds", 5)
    server.wait_ready()
    server.process.send_signal(signal.SIGTERM)
    while server.send("/healthz")[0] != 503:
        time.sleep(0.01)
    server.process.send_signal(signal.SIGSTOP)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", PREDICT, json.dumps(VALID))
    time.sleep(5.5)  # the clock alone would now say that nobody has come
    server.process.send_signal(signal.SIGCONT)
    assert connection.getresponse().status == 200
    assert server.process.wait(60) == 0


class Homeless(threading.Thread):
    """A caller who knows no other server: one request after the other until the port is closed.

    What Envoy does with the only server it knows, or when all are unhealthy. To be refused at the
    door is no loss, as it can be tried again; to be cut off after the request was sent is one.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port, self.lost = port, ""

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.lost:
            try:
                connection.connect()
            except OSError:
                return
            try:
                connection.request("POST", PREDICT, json.dumps(VALID))
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost = repr(error)
            connection.close()


def test_draining_cuts_off_none_of_those_who_come_until_its_deadline(
    digits_model, packed, launch, tmp_path
):
    package = packed(digits_model, tmp_path / "3", serve=ServeConfig(drain_seconds=1.0))
    server = launch("--package", package, "--port", 0, "--leave-seconds", 0.5)
    server.wait_ready()
    callers = [Homeless(server.port) for _ in range(8)]
    for caller in callers:
        caller.start()
    server.process.send_signal(signal.SIGTERM)
    for caller in callers:
        caller.join(60)
    assert server.process.wait(60) == 0
    assert [caller.lost for caller in callers] == [""] * 8
    assert "drained: 0 requests cut off" in server.log.read_text()


def test_draining_keeps_the_port_open_for_callers_who_cannot_know_yet(digits_package, launch):
    server = launch("--package", digits_package, "--port", 0, "--leave-seconds", 6)
    server.wait_ready()
    server.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    while time.monotonic() - began < 1.0:  # each on a connection of its own
        assert server.send(PREDICT, VALID)[0] == 200
        time.sleep(0.1)
    assert server.process.wait(60) == 0
    assert time.monotonic() - began >= 6


def test_draining_does_not_wait_for_those_who_ask_after_its_health(digits_package, launch):
    server = launch("--package", digits_package, "--port", 0, "--leave-seconds", 0.5)
    server.wait_ready()
    server.process.send_signal(signal.SIGTERM)
    asked = 0
    while server.process.poll() is None and asked < 1000:  # 20 s are all that it may take
        with contextlib.suppress(httpx.TransportError):
            asked += 1
            server.send("/healthz")
        time.sleep(0.01)
    assert server.process.wait(1) == 0
    assert asked < 1000
