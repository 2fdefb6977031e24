"""Tokens, TLS, and who may write plans."""

import select
import socket
import ssl
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from components.runs.agent_client import AgentClient, PlanConflictError
from contract.errors import EXIT_UNEXPECTED, EXIT_USER_ERROR, UserError
from contract.records.traffic import Arm


def test_of_two_writers_one_wins_and_the_other_learns_what_is_in_force(stack) -> None:
    stack.package(1)
    base = stack.client.plan("digits")
    arms = (Arm(name="stable", version=1, weight_percent=100),)
    plans = [base.model_copy(update={"arms": arms, "author": f"writer {i}"}) for i in range(8)]

    def propose(plan):
        try:
            return stack.client.propose(plan)
        except PlanConflictError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(propose, plans))
    winners = [answer for answer in answers if not isinstance(answer, PlanConflictError)]
    losers = [answer for answer in answers if isinstance(answer, PlanConflictError)]
    assert (len(winners), len(losers)) == (1, 7)
    assert stack.client.plan("digits") == winners[0]
    assert all(loser.current == winners[0] for loser in losers)


def test_the_control_api_wants_its_token(stack) -> None:
    url = f"http://127.0.0.1:{stack.settings.port}"
    assert httpx.get(f"{url}/healthz").status_code == 200
    assert httpx.get(f"{url}/v1/pipelines").status_code == 401
    with pytest.raises(UserError, match="refused this token"):
        AgentClient(url, "wrong").plan("digits")


def test_the_control_api_lists_pipelines_with_a_plan(stack) -> None:
    url = f"http://127.0.0.1:{stack.settings.port}/v1/pipelines"
    headers = {"authorization": "Bearer secret"}
    assert httpx.get(url, headers=headers).json() == {"pipelines": []}
    stack.package(1)
    stack.propose({1: 100})
    assert httpx.get(url, headers=headers).json() == {"pipelines": ["digits"]}


def test_the_data_plane_can_require_a_token(make_stack, tmp_path) -> None:
    (tmp_path / "callers").write_text("open sesame\n")
    stack = make_stack(data_plane_token_file=tmp_path / "callers", requests_per_second=20)
    stack.package(1)
    stack.serve({1: 100})
    url = f"{stack.url}/v1/models/digits:predict"
    without = httpx.post(url, json={})
    assert (without.status_code, without.headers["www-authenticate"]) == (401, "Bearer")
    assert "Authorization" in without.json()["error"]
    assert httpx.post(url, json={}, headers={"authorization": "Bearer no"}).status_code == 401
    known = httpx.post(url, json={}, headers={"authorization": "Bearer open sesame"})
    # it stays between the caller and the data plane
    assert (known.status_code, known.json()["has_token"]) == (200, False)
    with httpx.Client() as http:  # who guesses uses up the rate of the guess, not the caller's
        assert _until_limited(stack, http, url, "guess") == {401, 429}
        assert _status(http, url, "open sesame") == 200
        assert _until_limited(stack, http, url, "open sesame") == {200, 429}
    limited = httpx.post(url, json={}, headers={"authorization": "Bearer guess"})
    assert limited.status_code in (401, 429)
    sesame = {"authorization": "Bearer open sesame"}
    stack.until(lambda: httpx.post(url, json={}, headers=sesame).is_success, "the rate is renewed")


def _until_limited(stack, http: httpx.Client, url: str, token: str) -> set[int]:
    """Send sixteen requests at a time, until the rate of 20 a second is used up; return answers."""
    seen: set[int] = set()

    def is_limited() -> bool:
        with ThreadPoolExecutor(16) as pool:
            seen.update(pool.map(lambda _: _status(http, url, token), range(64)))
        return 429 in seen

    stack.until(is_limited, "the rate is used up")
    return seen


def _status(http: httpx.Client, url: str, token: str) -> int:
    return http.post(url, json={}, headers={"authorization": f"Bearer {token}"}).status_code


def test_strangers_cannot_wear_the_data_plane_out(make_stack) -> None:
    """Every limit of `serving.traffic.envoy.edge`, attacked on a real Envoy."""
    stack = make_stack(max_connections=40)
    stack.package(1)
    stack.serve({1: 100})
    edge = _Edge(stack.settings.envoy_port)
    slow = edge.open()
    slow.sendall(b"POST /v1/models/digits:predict HTTP/1.1\r\nhost: x\r\n")
    assert edge.status() == 200
    assert edge.status("user_id: 1") == 400
    assert edge.status(path="/v1/models/digits%2Fversions%2F1:predict") == 400
    assert edge.status(path="/v1/models/digits%5Cversions:predict") == 400
    assert edge.status(*(f"x-{number}: 1" for number in range(101))) == 431
    assert edge.status(f"x-long: {'a' * (61 << 10)}") == 431
    assert edge.http2_settings() == {3: 100, 4: 64 << 10}  # streams, and bytes of each
    crowd = [edge.open() for _ in range(80)]
    stack.until(lambda: edge.closed(crowd) >= 41, "the connections above the limit are closed")
    # 39, beside `slow`; less those that Envoy's agent and health checks do not count for
    assert len(crowd) - edge.closed(crowd) <= 39
    assert stack.observation().generation == 1  # the agent still reads Envoy's counters
    for one in crowd:
        one.close()
    stack.until(lambda: edge.status() == 200, "callers are served again")
    stack.until(lambda: edge.closed([slow]) == 1, "a head that does not end is given up")
    assert b" 408 " in slow.recv(100)


class _Edge:
    """What an attacker does with sockets."""

    def __init__(self, port: int) -> None:
        self.port = port

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def status(self, *headers: str, path: str = "/v1/models/digits:predict") -> int:
        """Send one prediction; return its status, 0 if the connection is closed instead."""
        lines = (f"POST {path} HTTP/1.1", "host: x", "content-length: 2", *headers)
        with self.open() as caller:
            try:
                caller.sendall("\r\n".join(lines).encode() + b"\r\n\r\n{}")
                answer = caller.recv(1000)
            except ConnectionError:
                return 0
        return int(answer.split(b" ")[1]) if answer else 0

    def closed(self, connections: list[socket.socket]) -> int:
        """Count those that the other side has closed, or has said something on."""
        ready, _, _ = select.select(connections, [], [], 0.05)
        return len(ready)

    def http2_settings(self) -> dict[int, int]:
        """Return what the first frame of the other side allows; RFC 9113, 6.5."""
        with self.open() as caller:
            caller.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            head = caller.recv(9, socket.MSG_WAITALL)
            size, kind = int.from_bytes(head[:3], "big"), head[3]
            assert kind == 4
            body = caller.recv(size, socket.MSG_WAITALL)
        found = dict(struct.iter_unpack("!HI", body))
        return {setting: found.get(setting, 0) for setting in (3, 4)}


def test_the_data_plane_can_speak_tls(make_stack, tmp_path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    stack = make_stack(tls_certificate=certificate, tls_private_key=key)
    stack.package(1)
    stack.serve({1: 100})
    context = ssl.create_default_context(cafile=str(certificate))
    url = f"https://127.0.0.1:{stack.settings.envoy_port}/v1/models/digits:predict"
    assert httpx.post(url, json={}, verify=context).status_code == 200
    with pytest.raises(httpx.HTTPError):
        httpx.post(url.replace("https", "http"), json={})


def test_a_second_agent_in_one_home_is_refused(stack) -> None:
    code, said = run_agent(stack.settings)
    assert (code, "held by serving agent, process " in said) == (EXIT_UNEXPECTED, True)


def test_an_agent_whose_port_is_taken_says_so(stack, tmp_path) -> None:
    code, said = run_agent(replace(stack.settings, home=tmp_path / "other"))
    assert (code, "cannot listen there" in said) == (EXIT_USER_ERROR, True)


def run_agent(settings) -> tuple[int, str]:
    command = [sys.executable, "-m", "serving.agent", *settings.arguments()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return ended.returncode, ended.stderr
