"""Damaged requests against a real model server, a real Envoy and the agent: does any do harm?

    python tests/benchmarks/bench_fuzz.py [--requests 500000] [--seconds 3600] [--seed 18]

Every protocol that is spoken to strangers: TensorFlow Serving's and the Open Inference Protocol's
REST at the model server and through Envoy, both over gRPC, HTTP/2 frames at Envoy, the agent's
control API. A request is a valid one that was damaged: its JSON, its bytes, its head, its chunks,
its gzip, its protobuf. Beside them one caller sends good requests,
whose answers must be right and in time. Prints JSON lines; each limit is 0 except for memory:
processes that died, answers of 5xx (503 means "later" and is counted apart), connections on which
nothing came in time, good requests that were answered wrongly or late, and how much the processes
grew after the first tenth. Ends at the number of requests or of seconds, whichever comes first;
exit code 1 above a limit.
"""

import argparse
import gzip
import http.client
import json
import os
import random
import select
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(1, str(Path(__file__).parents[1]))

from bench_envoy import BODY, PATH, PIPELINE, add_package, propose, settings_in
from fuzz_grpc import GrpcTarget
from support import emit

from components.runs.agent_client import AgentClient
from contract.layout import PipelineLayout
from contract.tokens import read_token
from serving.agent.backends.envoy import envoy_programs
from serving.agent.hosts.programs import agent_program
from serving.agent.settings import MachineSettings
from serving.supervisord.supervision import Supervisor, write_configuration

ATTACKERS = 16
_PATIENCE_SECONDS = 0.1  # for an answer; then the caller says that no more will come
HANG_SECONDS = 15.0
LATE_SECONDS = 5.0  # the machine is as busy as it can be
MAX_GROWTH_MIB = 64.0
GOOD_ANSWER = {"predictions": [[1.0, 0.0]]}
_NUMBERS = ("NaN", "1e999", "-0", "9" * 400, "1.5", "-1", "true", "null", '"1"', "[]", "{}", "[1]")
_HEADERS = (
    "content-encoding: gzip",
    "content-length: 5",
    "content-length: -1",
    "expect: 100-continue",
    "host: other",
    "origin: https://a.example",
    "transfer-encoding: chunked",
    "transfer-encoding: gzip, chunked",
    "upgrade: h2c\r\nconnection: upgrade",
    "x-request-id: " + "a" * 300,
    "inference-header-content-length: 60",
    "x-slipway-arm: canary",
    "x_under: 1",
    "x-bin: \x01\x7f",
)
_PATHS = (
    PATH,
    f"/v1/models/{PIPELINE}",
    f"/v1/models/{PIPELINE}/metadata",
    f"/v1/models/{PIPELINE}/versions/1:predict",
    f"/v1/models/{PIPELINE}/versions/{'9' * 60}:predict",
    f"/v1/models/{PIPELINE}/labels/stable:classify",
    f"/v1/models/{PIPELINE}:regress",
    f"/v2/models/{PIPELINE}",
    f"/v2/models/{PIPELINE}/infer",
    f"/v2/models/{PIPELINE}/versions/1/infer",
    "/v2/health/ready",
    "/v1/models/../../etc/passwd",
    "/%2e%2e/%00",
    "*",
    "/" + "a" * 9000,
    "http://x/v1/models/digits:predict",
)
_AGENT_PATHS = (
    f"/v1/pipelines/{PIPELINE}/plan",
    f"/v1/pipelines/{PIPELINE}/observation",
    f"/v1/pipelines/{PIPELINE}/rollout",
    "/v1/pipelines/../../x/plan",
    "/v1/pipelines",
    f"/rollouts/{PIPELINE}",
    "/metrics",
)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Make = Callable[[random.Random], bytes]


# --- damage -------------------------------------------------------------------------------------


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Change, cut, repeat or swap bytes."""
    made = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(made) + 1)
        until = min(len(made), at + chance.randrange(1, 30))
        kind = chance.randrange(4)
        if kind == 0:
            made[at:until] = chance.randbytes(until - at)
        elif kind == 1:
            del made[at:until]
        elif kind == 2:
            made[at:at] = made[at:until] * chance.randrange(1, 50)
        elif made:
            made[chance.randrange(len(made))] = chance.choice(b'\0\r\n"{}[],:\\\x80\xff')
    return bytes(made)


def json_body(chance: random.Random) -> bytes:
    """Return a body that is JSON, or nearly, of a form that the server may not expect."""
    kind, value = chance.randrange(9), chance.choice(_NUMBERS)
    if kind == 0:
        return damaged(BODY.encode(), chance)
    if kind == 1:
        return f'{{"instances": [{{"x": {value}}}]}}'.encode()
    if kind == 2:
        return ("[" * chance.randrange(1, 20_000)).encode()
    if kind == 3:
        rows = ", ".join(['{"x": 1.0}'] * chance.randrange(1, 3000))
        return f'{{"instances": [{rows}]}}'.encode()
    if kind == 4:
        name = chance.choice(("x", "y", "", "x" * 5000, "\\ud800", "__proto__"))
        return f'{{"inputs": {{"{name}": [{value}]}}}}'.encode()
    if kind == 5:
        return f'{{"instances": [{{"x": {{"b64": "{"A" * chance.randrange(9)}"}}}}]}}'.encode()
    if kind >= 7:
        tensor = f'{{"name": "x", "datatype": "FP32", "shape": [{value}], "data": [{value}]}}'
        whole = f'{{"inputs": [{tensor}], "parameters": {{"binary_data_output": {value}}}}}'
        return whole.encode() if kind == 7 else damaged(whole.encode(), chance)
    return f'{{"signature_name": {value}, "instances": {value}, "examples": {value}}}'.encode()


def http1(paths: tuple[str, ...], token: str) -> Make:
    """Return what makes requests of HTTP/1.1."""

    def make(chance: random.Random) -> bytes:
        body = json_body(chance)
        headers = ["host: x", *chance.sample(_HEADERS, chance.choice((0, 0, 1, 2)))]
        if token:
            headers.append(f"authorization: Bearer {token}")
        framing = chance.randrange(8)
        if framing == 0:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) + chance.choice((0, 0, 1, -1)), body)
            headers.append("transfer-encoding: chunked")
        elif framing == 1:
            body = damaged(gzip.compress(body), chance) if chance.random() < 0.7 else body
            headers += ["content-encoding: gzip", f"content-length: {len(body)}"]
        else:
            headers.append(f"content-length: {len(body)}")
        method = chance.choice(
            ("POST",) * 8 + ("GET", "PUT", "DELETE", "OPTIONS", "HEAD", "CONNECT")
        )
        first = f"{method} {chance.choice((paths[0], *paths))} HTTP/1.1"
        whole = "\r\n".join([first, *headers]).encode("latin-1") + b"\r\n\r\n" + body
        return damaged(whole, chance) if chance.random() < 0.3 else whole

    return make


def http2(chance: random.Random) -> bytes:
    """Return the preface and frames of any type, flags, stream and size (RFC 9113, 4.1)."""
    frames = [_PREFACE, b"\0\0\0\4\0\0\0\0\0"]
    for _ in range(chance.randrange(1, 8)):
        payload = chance.randbytes(chance.choice((0, 4, 5, 6, 8, 100, 5000)))
        head = struct.pack("!I", len(payload))[1:] + bytes([chance.randrange(12)])
        head += bytes([chance.choice((0, 1, 4, 5, 8, 0x20, 0xFF))])
        frames.append(head + struct.pack("!I", chance.choice((0, 1, 1, 2, 3, 1 << 31))) + payload)
    whole = b"".join(frames)
    return damaged(whole, chance) if chance.random() < 0.2 else whole


# --- attackers ----------------------------------------------------------------------------------


@dataclass
class Target:
    """One port, what is sent there, and what came back."""

    name: str
    port: int
    make: Make
    is_http1: bool = True
    counts: Counter[str] = field(default_factory=Counter)

    def attack(self, chance: random.Random) -> None:
        """Send one request, wait for an answer, half-close, and read until the other side closes.

        Who is half-closed at once, like Envoy, goes without a look at the request.
        """
        data = self.make(chance)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=HANG_SECONDS) as caller:
                self.counts[self._outcome(caller, data)] += 1
        except TimeoutError:
            self.counts["hang"] += 1
            sys.stderr.write(f"{self.name}: nothing came for {data[:300]!r}\n")
        except OSError:
            self.counts["closed"] += 1

    def _outcome(self, caller: socket.socket, data: bytes) -> str:
        caller.sendall(data)
        select.select([caller], [], [], _PATIENCE_SECONDS)
        caller.shutdown(socket.SHUT_WR)
        answer = caller.recv(65536)
        status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.") else ""
        if self.is_http1 and status.startswith("5") and status not in ("501", "503", "505"):
            sys.stderr.write(f"{self.name}: {status} for {data[:300]!r}: {answer[-200:]!r}\n")
        while caller.recv(65536):
            pass
        return status or "other"

    @property
    def server_errors(self) -> int:
        """Answers of 5xx that say something else than "later" or "not this method or version"."""
        kept = ("501", "503", "505")
        return sum(n for s, n in self.counts.items() if s[:1] == "5" and s not in kept)


class Good:
    """The caller who sends good requests all the while."""

    def __init__(self, port: int) -> None:
        self.sent = self.wrong = self.late = 0
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self._thread.start()

    def stop(self) -> None:
        """Send no more."""
        self._over.set()
        self._thread.join()

    def _call(self) -> None:
        while not self._over.wait(0.02):
            started = time.monotonic()
            self.sent += 1
            try:
                self.wrong += _predict(self._port) != GOOD_ANSWER
            except (OSError, http.client.HTTPException, ValueError):
                self.wrong += 1
            self.late += time.monotonic() - started > LATE_SECONDS


def _predict(port: int) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", PATH, BODY)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return found


@dataclass(frozen=True)
class Bounds:
    """When the attack ends."""

    requests: int
    seconds: float
    seed: int


def attack(
    targets: list[Target | GrpcTarget], bounds: Bounds, after_a_tenth: Callable[[], None]
) -> float:
    """Let attackers take turns at the targets; return the seconds."""
    started, lock, sent = time.monotonic(), threading.Lock(), [0]

    def work(number: int) -> None:
        chance = random.Random(bounds.seed * 1000 + number)
        while True:
            with lock:
                turn = sent[0]
                sent[0] += 1
            if turn >= bounds.requests or time.monotonic() - started > bounds.seconds:
                return
            targets[turn % len(targets)].attack(chance)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(ATTACKERS)]
    for one in threads:
        one.start()
    while any(one.is_alive() for one in threads):
        time.sleep(0.1)
        share = max(sent[0] / bounds.requests, (time.monotonic() - started) / bounds.seconds)
        if share > 0.1:
            after_a_tenth()
            break
    for one in threads:
        one.join()
    return time.monotonic() - started


# --- the stack ----------------------------------------------------------------------------------


def run(settings: MachineSettings, bounds: Bounds) -> bool:
    """Start the stack, attack it, print the figures; return whether all limits were kept."""
    programs = [*envoy_programs(settings), agent_program(settings)]
    write_configuration(settings.supervisor_home, programs)
    supervisor = Supervisor(settings.supervisor_home)
    supervisor.start()
    try:
        with AgentClient(f"http://127.0.0.1:{settings.port}", "bench") as client:
            propose(client, {1: 100})
            while not all(arm.is_ready for arm in client.observation(PIPELINE).versions):
                time.sleep(0.1)
        return attacked(settings, supervisor, bounds)
    finally:
        supervisor.stop()


def attacked(settings: MachineSettings, supervisor: Supervisor, bounds: Bounds) -> bool:
    ports = json.loads((settings.state_folder / "ports.json").read_text())["ports"]
    (server_ports,) = ports.values()
    token = read_token(settings.server_token_file)
    targets = [
        Target("model server, HTTP/1.1", server_ports["http"], http1(_PATHS, token)),
        GrpcTarget(server_ports["grpc"], token, PIPELINE, damaged, HANG_SECONDS),
        Target("through Envoy, HTTP/1.1", settings.envoy_port, http1(_PATHS, "")),
        Target("Envoy, HTTP/2", settings.envoy_port, http2, is_http1=False),
        Target("agent, HTTP/1.1", settings.port, http1(_AGENT_PATHS, "bench")),
    ]
    before = {name: state.pid for name, state in supervisor.states().items()}
    memory: dict[str, float] = {}
    good = Good(settings.envoy_port)
    seconds = attack(targets, bounds, lambda: memory.update(_mib(before)))
    good.stop()
    after = {name: state.pid for name, state in supervisor.states().items()}
    died = sum(after.get(name) != pid for name, pid in before.items())
    grown = {name: size - memory.get(name, size) for name, size in _mib(after).items()}
    sent = sum(target.counts.total() for target in targets)
    emit("damaged requests", sent, None, None, "", seconds=round(seconds, 1), seed=bounds.seed)
    for target in targets:
        emit(f"{target.name}: answers", target.counts.total(), None, None, "", **target.counts)
    found = {
        "processes that died": died,
        "5xx for a caller's fault": sum(target.server_errors for target in targets),
        "hangs": sum(target.counts["hang"] for target in targets),
        f"of {good.sent} good requests beside them, wrong": good.wrong,
        f"of {good.sent} good requests beside them, after {LATE_SECONDS:g} s": good.late,
    }
    for name, count in found.items():
        emit(name, count, None, 0, "")
    for name, size in grown.items():
        emit(f"growth of {name}", size, None, MAX_GROWTH_MIB, "MiB")
    return not any(found.values()) and all(size <= MAX_GROWTH_MIB for size in grown.values())


def _mib(pids: dict[str, int]) -> dict[str, float]:
    return {
        name: psutil.Process(pid).memory_info().rss / 2**20
        for name, pid in pids.items()
        if pid and psutil.pid_exists(pid)
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500_000)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=18)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    bounds = Bounds(options.requests, options.seconds, options.seed)
    with tempfile.TemporaryDirectory() as name:
        settings = settings_in(Path(name))
        add_package(PipelineLayout(settings.root, PIPELINE), 1, is_grpc=True)
        return 0 if run(settings, bounds) else 1


if __name__ == "__main__":
    sys.exit(main())
