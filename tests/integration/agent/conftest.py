"""A serving stack of its own for each test: supervisord, Envoy, agent, stand-in servers."""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import warm
from callers import Callers

from components.runs.agent_client import AgentClient
from contract.free_ports import free_port
from contract.layout import PipelineLayout
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.records.traffic import Arm, ArmObservation, Observation, Shadow, TrafficPlan
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from serving.agent.backends.envoy import envoy_programs
from serving.agent.hosts.host import HTTP
from serving.agent.hosts.programs import agent_program, server_name
from serving.agent.settings import MachineSettings
from serving.supervisord.configuration import socket_path, write_configuration
from serving.supervisord.supervision import Supervisor

STAND_IN = Path(__file__).parent / "stand_in_server.py"
PIPELINE = "digits"
PATIENCE_SECONDS = 120.0


class NotRunningError(AssertionError):
    """A version does not run, as far as the agent has looked."""


class Stack:
    """One machine's serving, started by `up` and ended by `down`."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.layout = PipelineLayout(folder / "artifacts", PIPELINE)
        home = folder / "home"
        token_file = folder / "token"
        token_file.write_text("secret\n")
        settings = MachineSettings(
            root=self.layout.root,
            home=home,
            port=free_port(),
            token_file=token_file,
            envoy_port=free_port(),
            supervisor_socket=socket_path(home / "supervisor"),
            drain_seconds=0.5,
            server_command=(sys.executable, str(STAND_IN)),
        )
        self.settings = replace(settings, **changes)
        self.supervisor = Supervisor(home / "supervisor")
        self.client = AgentClient(f"http://127.0.0.1:{self.settings.port}", "secret")
        self.url = f"http://127.0.0.1:{self.settings.envoy_port}"

    def up(self) -> None:
        programs = [*envoy_programs(self.settings), agent_program(self.settings)]
        write_configuration(self.settings.supervisor_home, programs)
        with warm.inherited_environment():
            self.supervisor.start()
        self.client.plan(PIPELINE)

    def down(self) -> None:
        self.client.close()
        self.supervisor.stop()

    def package(self, version: int, serve: ServeConfig | None = None, **behaviour: Any) -> None:
        folder = self.layout.version(version)
        (folder / "model").mkdir(parents=True)
        (folder / "behaviour.json").write_text(json.dumps(behaviour))
        manifest(version, serve or ServeConfig(drain_seconds=2.0)).write(folder / "package.json")

    def gated_package(self, version: int) -> Path:
        """Make a package whose server is not ready until the returned file is there."""
        gate = self.layout.version(version) / "may_start"
        self.package(version, start_file=str(gate))
        return gate

    def propose(
        self, weights: dict[int, int], shadow: Shadow | None = None, standby: tuple[int, ...] = ()
    ) -> TrafficPlan:
        """Store a plan: the first version is stable, the second the canary."""
        names = ("stable", "canary")
        arms = tuple(
            Arm(name=name, version=version, weight_percent=weight)
            for name, (version, weight) in zip(names, weights.items(), strict=False)
        )
        changes = {"arms": arms, "shadow": shadow, "standby": standby, "author": "test"}
        return self.client.propose(self.client.plan(PIPELINE).model_copy(update=changes))

    def wait_for(self, plan: TrafficPlan) -> float:
        """Wait until the data plane follows a plan; return the seconds it took."""
        started = time.monotonic()
        self.until(
            lambda: self.observation().generation >= plan.generation,
            f"data plane on generation {plan.generation}",
        )
        return time.monotonic() - started

    def serve(self, weights: dict[int, int], **more: Any) -> TrafficPlan:
        plan = self.propose(weights, **more)
        self.wait_for(plan)
        return plan

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._is_so(is_so):
            if time.monotonic() > deadline:
                log = self.settings.logs_folder / "agent.log"
                pytest.fail(f"not so in {PATIENCE_SECONDS} s: {what}\n{log.read_text()[-3000:]}")
            time.sleep(0.02)

    @staticmethod
    def _is_so(condition: Callable[[], bool]) -> bool:
        """A new agent has not looked yet: what it does not know is not so."""
        try:
            return condition()
        except NotRunningError:
            return False

    def observation(self) -> Observation:
        return self.client.observation(PIPELINE)

    def seen(self, version: int) -> ArmObservation:
        arm = self.observation().of(version)
        if arm is None:
            raise NotRunningError(f"version {version} does not run")
        return arm

    def predict(self, count: int, **headers: str) -> Counter[str]:
        """Send predictions one by one; return how many each version (or status) answered."""
        with httpx.Client(base_url=self.url, headers=headers, trust_env=False) as http:
            answers = [http.post(f"/v1/models/{PIPELINE}:predict", json={}) for _ in range(count)]
        return Counter(
            answer.headers["x-slipway-version"] if answer.is_success else str(answer.status_code)
            for answer in answers
        )

    def pid(self, program: str) -> int:
        return self.supervisor.states()[program].pid

    def kill(self, program: str) -> int:
        """`kill -9` a program and return the process id that it had."""
        pid = self.pid(program)
        os.kill(pid, signal.SIGKILL)
        return pid

    def server(self, version: int) -> str:
        return server_name(PIPELINE, version)

    def server_port(self, version: int, name: str = HTTP) -> int:
        text = (self.settings.state_folder / "ports.json").read_text()
        return int(json.loads(text)["ports"][self.server(version)][name])


def manifest(version: int, serve: ServeConfig) -> PackageManifest:
    return PackageManifest(
        pipeline=PIPELINE,
        version=version,
        created_at=datetime.now(UTC),
        digest="sha256:0",
        inputs={"x": InputSpec(dtype="float32")},
        heads={"digit": HeadConfig(task="multiclass_classification", classes=("0", "1"))},
        serve=serve,
        provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
    )


@pytest.fixture
def make_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Return a function that starts a stack; keywords are changed settings."""
    stacks = []

    def make(**changes: Any) -> Stack:
        stack = Stack(tmp_path, **changes)
        stacks.append(stack)
        stack.up()
        return stack

    yield make
    for stack in stacks:
        stack.down()


@pytest.fixture(scope="module")
def warm_stack(tmp_path_factory: pytest.TempPathFactory, warm_parent: Path) -> Iterator[Stack]:
    """A stack for all tests of a file; its model servers are real ones, forks of a warm parent."""
    folder = tmp_path_factory.mktemp("stack")
    stack = Stack(folder, server_command=warm.server_command(warm_parent, folder / "home"))
    stack.up()
    yield stack
    stack.down()


@pytest.fixture
def load_on() -> Callable[..., Callers]:
    """Return a function that makes callers of a stack, to be used in a `with`.

    They pause between two requests, unless a test wants all that the machine can send: callers
    that never pause take the cores from the agent, and from the tests that run beside.
    """

    def make(stack: Stack, callers: int = 4, body: object = None, pause: float = 0.005) -> Callers:
        return Callers(("127.0.0.1", stack.settings.envoy_port), PIPELINE, body, callers, pause)

    return make


@pytest.fixture
def stack(make_stack: Callable[..., Stack]) -> Stack:
    return make_stack()
