"""The agent's settings: its command line is read by them and written from them."""

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from contract.errors import ConfigError
from contract.loader import load_runtime
from contract.private_files import secret_file
from contract.programs import MODEL_SERVER, program_command
from contract.schema.cluster import KubernetesConfig
from contract.storage import local_path
from contract.tokens import read_token
from serving.traffic.envoy.listener import ListenerOptions


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """What an agent must be told wherever servers run; it reads no environment."""

    root: Path
    home: Path
    port: int
    token_file: Path
    envoy_port: int
    tokens_file: Path | None = None
    data_plane_token_file: Path | None = None
    tls_certificate: Path | None = None
    tls_private_key: Path | None = None
    timeout_seconds: float = 30.0
    drain_seconds: float = 2.0
    requests_per_second: int = 0
    listen_host: str = "127.0.0.1"
    host: str = "127.0.0.1"

    @property
    def state_folder(self) -> Path:
        return self.home / "agent"

    def token(self) -> str:
        """Return the control API's bearer token."""
        return read_token(self.token_file)

    def listener_options(self) -> ListenerOptions:
        """Return how callers reach the data plane; reads its token file."""
        if (self.tls_certificate is None) != (self.tls_private_key is None):
            raise ConfigError(["--tls-certificate and --tls-private-key: expected both or none"])
        callers = self.data_plane_token_file
        return ListenerOptions(
            host=self.listen_host,
            port=self.envoy_port,
            timeout_seconds=self.timeout_seconds,
            token=read_token(callers) if callers else "",
            certificate=self.tls_certificate,
            private_key=self.tls_private_key,
            requests_per_second=self.requests_per_second,
        )

    def arguments(self) -> list[str]:
        """Return the command line that `parse` reads back as these settings."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        texts = {
            _flag(name): shlex.join(value) if isinstance(value, tuple) else str(value)
            for name, value in given.items()
            if value is not None
        }
        mode = next(mode for mode, kind in _MODES.items() if isinstance(self, kind))
        return [mode, *(part for pair in texts.items() for part in pair)]


@dataclass(frozen=True, kw_only=True)
class MachineSettings(AgentSettings):
    """Servers and Envoy are processes of this machine, kept by supervisord."""

    supervisor_socket: Path
    server_ports: str = "20000-29999"
    server_command: tuple[str, ...] = tuple(program_command(MODEL_SERVER))
    traffic_backend: str = "envoy"
    max_connections: int = 10_000
    envoys: int = 1

    @property
    def server_token_file(self) -> Path:
        """The token of this machine's servers, which only the data plane knows; made here."""
        return secret_file(self.home / "server.token")

    def listener_options(self) -> ListenerOptions:
        """See AgentSettings."""
        token = read_token(self.server_token_file)
        return replace(super().listener_options(), server_token=token)

    @property
    def envoy_folder(self) -> Path:
        return self.home / "envoy"

    @property
    def supervisor_home(self) -> Path:
        return self.home / "supervisor"

    @property
    def logs_folder(self) -> Path:
        return self.home / "logs"

    @property
    def port_range(self) -> range:
        """The ports that model servers may take."""
        first, _, last = self.server_ports.partition("-")
        try:
            ports = range(int(first), int(last) + 1)
        except ValueError:
            ports = range(0)
        if not ports or ports[0] < 1 or ports[-1] > 65535:
            raise ConfigError(
                [f"--server-ports: expected FIRST-LAST within 1-65535, found '{self.server_ports}'"]
            )
        return ports


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(AgentSettings):
    """Servers are Deployments of a cluster, and so is Envoy, which asks the agent."""

    runtime: Path
    envoy_token_file: Path
    listen_host: str = "0.0.0.0"
    host: str = "0.0.0.0"


def traffic_backend_of(settings: AgentSettings) -> str:
    """Return the traffic backend's name, in a cluster from its runtime file."""
    if isinstance(settings, ClusterSettings):
        return load_runtime(str(settings.runtime)).traffic.backend
    assert isinstance(settings, MachineSettings)
    return settings.traffic_backend


def kubernetes_of(settings: ClusterSettings) -> KubernetesConfig:
    """Return what the runtime file says of the cluster; ConfigError if it says nothing."""
    kubernetes = load_runtime(str(settings.runtime)).kubernetes
    if kubernetes is None:
        raise ConfigError([f"{settings.runtime}: section 'kubernetes' is missing"])
    return kubernetes


_HELP = {
    "root": "artifact root, a path",
    "home": "folder for the agent's state",
    "port": "port of the control API",
    "token_file": "file with the control API's bearer token",
    "tokens_file": "tokens with some rights, as 'slipway token' writes them",
    "envoy_port": "port of the data plane",
    "data_plane_token_file": "a bearer token that callers must send",
    "tls_certificate": "PEM certificate chain for the data plane",
    "tls_private_key": "PEM private key for the data plane",
    "timeout_seconds": "longest that a prediction may take",
    "drain_seconds": "least time between a server's last traffic and its end",
    "requests_per_second": "limit for each caller, by its token or else its address; 0: no limit",
    "listen_host": "address that the data plane listens on",
    "host": "address that the control API listens on",
    "traffic_backend": "what moves the traffic, as traffic.backend of a runtime file",
    "max_connections": "most connections of all callers to the data plane",
    "envoys": "Envoys that share the port of the data plane",
    "supervisor_socket": "unix socket of the supervisord that owns the processes",
    "server_ports": "ports for model servers; below the ephemeral ones",
    "server_command": "command that starts a model server",
    "runtime": "runtime file; its section 'kubernetes' says what servers get",
    "envoy_token_file": "file with the token that Envoys must send",
}

_MODES: dict[str, type[AgentSettings]] = {"machine": MachineSettings, "cluster": ClusterSettings}


def parse(arguments: Sequence[str]) -> AgentSettings:
    """Read the command line; `--help` and errors end the process as argparse does."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.agent",
        description="Keep model servers and Envoy as the traffic plans say.",
    )
    modes = parser.add_subparsers(dest="mode", required=True, metavar="machine|cluster")
    for mode, kind in _MODES.items():
        one = modes.add_parser(mode, help=kind.__doc__, description=kind.__doc__)
        for option in fields(kind):
            is_required = option.default is MISSING
            one.add_argument(
                _flag(option.name),
                type=_KINDS[option.type],
                required=is_required,
                default=None if is_required else option.default,
                help=_HELP[option.name],
            )
    given = vars(parser.parse_args(arguments))
    return _MODES[given.pop("mode")](**given)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _command(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


_KINDS: dict[Any, Callable[[str], Any]] = {
    Path: local_path,
    Path | None: local_path,
    int: int,
    float: float,
    str: str,
    tuple[str, ...]: _command,
}
