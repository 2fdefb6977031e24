"""Model servers as supervisord's programs: one process per version, on a loopback port."""

import random
import time
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from pydantic import BaseModel, field_validator

from contract.errors import ServiceUnavailableError
from contract.free_ports import is_free
from contract.programs import MODEL_SERVER, program_command
from contract.storage import write_atomically
from serving.agent.hosts.host import GRPC, HTTP, ServerSpec, ServerState
from serving.agent.hosts.programs import parse_server_name, server_name, server_program
from serving.agent.settings import MachineSettings
from serving.supervisord.supervision import ProgramState, Supervisor
from serving.traffic.backend import Endpoint, Version

_HOST = "127.0.0.1"
_PORT_OPTIONS = {HTTP: "--port", GRPC: "--grpc-port"}
_TRY_AGAIN_SECONDS = 30.0
_LAST_WORDS_BYTES = 2000
_FAILED_STATES = frozenset({"BACKOFF", "FATAL", "EXITED"})
_KEPT_STATES = frozenset({"STARTING", "RUNNING", "BACKOFF", "EXITED"})

ServerPorts = dict[str, int]  # by name


class _Ports(BaseModel):
    """The ports of each server's program; a file, so that a restarted agent finds its servers."""

    ports: dict[str, ServerPorts] = {}

    @field_validator("ports", mode="before")
    @classmethod
    def _named(cls, ports: Any) -> Any:
        """Take the files of Slipway 0.1, where a server had one port, without a name."""
        if not isinstance(ports, dict):
            return ports
        return {key: {HTTP: own} if isinstance(own, int) else own for key, own in ports.items()}


class SupervisedServers:
    """A ServerHost on one machine."""

    def __init__(self, settings: MachineSettings) -> None:
        self._settings = settings
        self._supervisor = Supervisor(settings.supervisor_home, settings.supervisor_socket)
        self._file = settings.state_folder / "ports.json"
        self._given_up_at: dict[str, float] = {}
        self._last_problem: dict[str, str] = {}

    def states(self) -> Mapping[Version, ServerState]:
        """See ServerHost."""
        ports = self._ports()
        return {
            version: self._state(program, ports[name])
            for name, program in self._supervisor.states().items()
            if (version := parse_server_name(name)) and name in ports
        }

    def start(self, spec: ServerSpec) -> None:
        """See ServerHost. One that supervisord gave up is tried again after half a minute."""
        name = server_name(spec.pipeline, spec.version)
        program = self._supervisor.states().get(name)
        if program is not None and program.state == "FATAL":
            since = self._given_up_at.setdefault(name, time.monotonic())
            if time.monotonic() - since < _TRY_AGAIN_SECONDS:
                return
        # Created again rather than restarted: it may have been removed half, or somebody else may
        # have taken its port meanwhile.
        if program is None or self._supervisor.remove(name):
            self._given_up_at.pop(name, None)
            self._add(spec, name, self._usable_ports(spec, name))

    def end(self, version: Version) -> None:
        """See ServerHost."""
        self._supervisor.kill_program(server_name(*version))

    def stop(self, version: Version) -> bool:
        """See ServerHost."""
        name = server_name(*version)
        if not self._supervisor.remove(name):
            return False
        self._save({key: ports for key, ports in self._ports().items() if key != name})
        return True

    def _state(self, program: ProgramState, ports: ServerPorts) -> ServerState:
        if program.state == "RUNNING":
            self._last_problem.pop(program.name, None)
        elif program.state in _FAILED_STATES:
            self._last_problem[program.name] = _problem(program)
        # one that is being started again keeps the problem of its last end until it runs
        problem = self._last_problem.get(program.name, "")
        is_kept = program.state in _KEPT_STATES
        endpoint = Endpoint(_HOST, ports[HTTP], ports.get(GRPC))
        return ServerState(endpoint, is_kept, problem, program.process)

    def _add(self, spec: ServerSpec, name: str, ports: ServerPorts) -> None:
        self._save({**self._ports(), name: ports})
        arguments = {
            "--package": spec.package,
            "--host": _HOST,
            **{_PORT_OPTIONS[kind]: port for kind, port in ports.items()},
            "--predictions": spec.predictions,
            "--token-file": self._settings.server_token_file,
        }
        command = tuple(str(part) for pair in arguments.items() for part in pair)
        start = self._settings.server_command
        if spec.program != MODEL_SERVER:
            start = tuple(program_command(spec.program))
        self._supervisor.add(
            server_program(self._settings, name, (*start, *command), spec.drain_seconds)
        )

    def _usable_ports(self, spec: ServerSpec, name: str) -> ServerPorts:
        """Return a free port for each name; those that it had, where they are free."""
        known = self._ports()
        had = known.pop(name, {})
        taken = {port for ports in known.values() for port in ports.values()}
        found: ServerPorts = {}
        for kind in spec.port_names:
            found[kind] = self._usable_port(name, had.get(kind), taken | {*found.values()})
        return found

    def _usable_port(self, name: str, had: int | None, taken: Set[int]) -> int:
        if had is not None and had not in taken and is_free(had):
            return had
        candidates = [port for port in self._settings.port_range if port not in taken]
        # at random, so that two agents on one machine seldom want the same
        random.shuffle(candidates)
        for port in candidates:
            if is_free(port):
                return port
        raise ServiceUnavailableError(
            f"no free port for {name} in {self._settings.server_ports}; widen --server-ports"
        )

    def _ports(self) -> dict[str, ServerPorts]:
        if not self._file.exists():
            return {}
        return _Ports.model_validate_json(self._file.read_bytes()).ports

    def _save(self, ports: Mapping[str, ServerPorts]) -> None:
        write_atomically(self._file, _Ports(ports=dict(ports)).model_dump_json(indent=1))


def _problem(program: ProgramState) -> str:
    given_up = "was given up after several tries" if program.state == "FATAL" else "ended"
    last_words = _last_words(program.log_file)
    said = f"; its last words: {last_words}" if last_words else ""
    return f"its server {given_up} ({program.description}){said}; log: {program.log_file}"


def _last_words(log_file: Path) -> str:
    """Return the last line that a program wrote, if any."""
    if not log_file.exists():
        return ""
    with log_file.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _LAST_WORDS_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
