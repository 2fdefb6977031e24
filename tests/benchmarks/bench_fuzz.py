"""Damaged requests against a real model server, a real Envoy and the agent: does any do harm?

    python tests/benchmarks/bench_fuzz.py [--requests 500000] [--seconds 3600] [--seed 18]
        [--postgres]

Every protocol that is spoken to strangers: TensorFlow Serving's and the Open Inference Protocol's
REST and gRPC, at a trained model's server, through Envoy, and at `serve-tf`; HTTP/2 frames at
Envoy; the agent's control API; the judge's server; the label page, over PostgreSQL with
`--postgres`. A request is a valid one that was damaged: its JSON, its bytes, its head, its chunks,
its gzip, its protobuf, its form. Beside them one caller sends good requests, whose answers
must be right and in time. Prints JSON lines; each limit is 0 except for memory:
processes that died, answers of 5xx (503 means "later" and is counted apart), connections on which
nothing came in time, good requests that were answered wrongly or late, and by how much the most
memory of a process in the second half was above that in the first: the allocators of glibc and of
TensorFlow keep what the widest requests so far needed, which is no leak. Ends at the number of
requests or of seconds, whichever comes first; exit code 1 above a limit.
"""

import argparse
import http.client
import json
import os
import random
import select
import signal
import socket
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

from bench_envoy import BODY, PATH, PIPELINE, propose, settings_in
from fuzz_grpc import GrpcTarget
from fuzz_http import SERVER_PATHS, Make, damaged, http1, http2, plan_body
from fuzz_models import add_package, save_foreign_model
from fuzz_pages import Judge, LabelPage, label_database, until_healthy
from support import emit

from components.runs.agent_client import AgentClient
from contract.free_ports import free_port
from contract.layout import PipelineLayout
from contract.places import CODE_FOLDER
from contract.tokens import read_token
from serving.agent.backends.envoy import envoy_programs
from serving.agent.hosts.programs import agent_program
from serving.agent.settings import MachineSettings
from serving.supervisord.configuration import Program, write_configuration
from serving.supervisord.supervision import Supervisor

ATTACKERS = 16
_PATIENCE_SECONDS = 0.1  # for an answer; then the caller says that no more will come
HANG_SECONDS = 15.0
START_SECONDS = 300.0  # of the whole stack, on a busy machine
LATE_SECONDS = 5.0  # the machine is as busy as it can be
MAX_GROWTH_MIB = 64.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
GOOD_ANSWER = {"predictions": [[1.0, 0.0]]}
_STANDALONE = "standalone"
_AGENT_PATHS = (
    f"/v1/pipelines/{PIPELINE}/plan",
    f"/v1/pipelines/{PIPELINE}/hold",
    f"/v1/pipelines/{PIPELINE}/trial?author=a&by=b&reason=c",
    f"/v1/pipelines/{PIPELINE}/observation",
    f"/v1/pipelines/{PIPELINE}/rollout",
    "/v1/pipelines/../../x/plan",
    "/v1/pipelines",
    f"/rollouts/{PIPELINE}",
    "/metrics",
)


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
        answer = b""
        while more := caller.recv(65536):
            answer += more
        final = answer.removeprefix(_CONTINUE)
        status = final[9:12].decode("latin-1") if final.startswith(b"HTTP/1.") else ""
        if self.is_http1 and status.startswith("5") and status not in ("501", "503", "505"):
            sys.stderr.write(f"{self.name}: {status} for {data[:300]!r}: {answer[-200:]!r}\n")
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


def answers_rightly(port: int) -> bool:
    """Tell whether a good request to a port gets the right answer."""
    try:
        return bool(_predict(port) == GOOD_ANSWER)
    except (OSError, http.client.HTTPException, ValueError):
        return False


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


def attack(targets: list[Target | GrpcTarget], bounds: Bounds) -> float:
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
    for one in threads:
        one.join()
    return time.monotonic() - started


class Memory:
    """Looks every second at how much memory processes have, in MiB."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._seen: list[dict[str, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def most(self) -> dict[str, tuple[float, float]]:
        """Return the most that each process had in the first and in the second half."""
        middle = len(self._seen) // 2
        halves = self._seen[:middle], self._seen[middle:]
        first, second = (
            {name: max(one.get(name, 0.0) for one in half) for name in self._pids}
            for half in halves
        )
        return {name: (first[name], second[name]) for name in self._pids}

    def _look(self) -> None:
        while not self._over.wait(1.0):
            self._seen.append(
                {
                    name: psutil.Process(pid).memory_info().rss / 2**20
                    for name, pid in self._pids.items()
                    if pid and psutil.pid_exists(pid)
                }
            )


# --- the stack ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standalone:
    """A `serve-tf` of the same model."""

    models: Path
    http: int = field(default_factory=free_port)
    grpc: int = field(default_factory=free_port)

    def program(self, logs: Path) -> Program:
        """Return what supervisord keeps."""
        flags = (
            f"--port={self.grpc}",
            f"--rest_api_port={self.http}",
            f"--model_name={PIPELINE}",
            f"--model_base_path={self.models}",
        )
        command = (sys.executable, "-m", "serving.standalone", *flags)
        return Program(_STANDALONE, command, logs / f"{_STANDALONE}.log", directory=CODE_FOLDER)


@dataclass(frozen=True)
class Others:
    """What listens besides the agent, Envoy and the model server."""

    standalone: Standalone
    judge: Judge
    labels: LabelPage

    def programs(self, logs: Path) -> list[Program]:
        """Return what supervisord keeps."""
        return [one.program(logs) for one in (self.standalone, self.judge, self.labels)]


def run(settings: MachineSettings, others: Others, bounds: Bounds) -> bool:
    """Start the stack, attack it, print the figures; return whether all limits were kept."""
    own = others.programs(settings.logs_folder)
    programs = [*envoy_programs(settings), agent_program(settings), *own]
    write_configuration(settings.supervisor_home, programs)
    supervisor = Supervisor(settings.supervisor_home)
    supervisor.start(START_SECONDS)
    try:
        url = f"http://127.0.0.1:{settings.port}"
        with AgentClient(url, "bench", patience_seconds=START_SECONDS) as client:
            propose(client, {1: 100})
            _until(lambda: all(arm.is_ready for arm in client.observation(PIPELINE).versions))
        _until(lambda: answers_rightly(settings.envoy_port))
        _until(lambda: answers_rightly(others.standalone.http))
        for port in (others.judge.port, others.labels.port):
            until_healthy(port, START_SECONDS)
        return attacked(targets_of(settings, others), settings, supervisor, bounds)
    finally:
        supervisor.stop()


def _until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the stack is not up after {START_SECONDS:g} s")
        time.sleep(0.1)


def targets_of(settings: MachineSettings, others: Others) -> list[Target | GrpcTarget]:
    ports = json.loads((settings.state_folder / "ports.json").read_text())["ports"]
    (server,) = ports.values()
    token, envoy = read_token(settings.server_token_file), settings.envoy_port
    standalone, judge, labels = others.standalone, others.judge, others.labels

    def grpc_target(name: str, port: int, token: str = "") -> GrpcTarget:
        return GrpcTarget(f"{name}, gRPC", port, token, PIPELINE, damaged, HANG_SECONDS)

    return [
        Target("model server, HTTP/1.1", server["http"], http1(SERVER_PATHS, token)),
        grpc_target("model server", server["grpc"], token),
        Target("through Envoy, HTTP/1.1", envoy, http1(SERVER_PATHS, "")),
        grpc_target("through Envoy", envoy),
        Target("Envoy, HTTP/2", envoy, http2, is_http1=False),
        Target("serve-tf, HTTP/1.1", standalone.http, http1(SERVER_PATHS, "")),
        grpc_target("serve-tf", standalone.grpc),
        Target("agent, HTTP/1.1", settings.port, http1(_AGENT_PATHS, "bench", plan_body, "PUT")),
        Target("judge, HTTP/1.1", judge.port, judge.make),
        Target("label page, HTTP/1.1", labels.port, labels.make()),
    ]


def attacked(
    targets: list[Target | GrpcTarget],
    settings: MachineSettings,
    supervisor: Supervisor,
    bounds: Bounds,
) -> bool:
    before = {name: state.pid for name, state in supervisor.states().items()}
    memory, good = Memory(before), Good(settings.envoy_port)
    seconds = attack(targets, bounds)
    good.stop()
    memory.stop()
    after = {name: state.pid for name, state in supervisor.states().items()}
    died = [name for name, pid in before.items() if after.get(name) != pid]
    if died:
        log = (settings.logs_folder / "agent.log").read_text(encoding="utf-8", errors="replace")
        said = [line for line in log.splitlines() if "Invalid HTTP request" not in line]
        words = "\n".join(said[-20:])
        sys.stderr.write(f"died: {', '.join(died)}; the agent's last words:\n{words}\n")
    sent = sum(target.counts.total() for target in targets)
    emit("damaged requests", sent, None, None, "", seconds=round(seconds, 1), seed=bounds.seed)
    for target in targets:
        emit(f"{target.name}: answers", target.counts.total(), None, None, "", **target.counts)
    found = {
        "processes that died": len(died),
        "5xx for a caller's fault": sum(target.server_errors for target in targets),
        "hangs": sum(target.counts["hang"] for target in targets),
        f"of {good.sent} good requests beside them, wrong": good.wrong,
        f"of {good.sent} good requests beside them, after {LATE_SECONDS:g} s": good.late,
    }
    for name, count in found.items():
        emit(name, count, None, 0, "")
    grown = {name: (second - first, first) for name, (first, second) in memory.most().items()}
    for name, (size, first) in grown.items():
        emit(f"growth of {name}", size, None, MAX_GROWTH_MIB, "MiB", first_half=round(first, 1))
    return not any(found.values()) and all(s <= MAX_GROWTH_MIB for s, _ in grown.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500_000)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--postgres", action="store_true", help="the label page's database")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # it ends what it has started
    bounds = Bounds(options.requests, options.seconds, options.seed)
    with (
        tempfile.TemporaryDirectory() as name,
        label_database(Path(name), options.postgres) as database,
    ):
        settings = settings_in(Path(name))
        layout = PipelineLayout(settings.root, PIPELINE)
        add_package(layout)
        models = Path(name, "models")
        save_foreign_model(models / "1")
        pages = (Judge(Path(name)), LabelPage(Path(name), database))
        return 0 if run(settings, Others(Standalone(models), *pages), bounds) else 1


if __name__ == "__main__":
    sys.exit(main())
