"""The agent's settings: one table that its command line is read by and written from."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.errors import ConfigError
from contract.storage import local_path
from serving.traffic.envoy_listener import ListenerOptions


@dataclass(frozen=True)
class AgentSettings:
    """Everything that an agent must be told; it reads no environment."""

    root: Path
    home: Path
    port: int
    token_file: Path
    envoy_port: int
    envoy_admin_port: int
    supervisor_socket: Path
    listen_host: str = "127.0.0.1"
    data_plane_token_file: Path | None = None
    tls_certificate: Path | None = None
    tls_private_key: Path | None = None
    timeout_seconds: float = 30.0
    drain_seconds: float = 2.0
    server_ports: str = "20000-29999"
    server_command: tuple[str, ...] = (sys.executable, "-m", "serving.server")

    @property
    def envoy_folder(self) -> Path:
        return self.home / "envoy"

    @property
    def state_folder(self) -> Path:
        return self.home / "agent"

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

    def token(self) -> str:
        """Return the control API's bearer token."""
        return _secret(self.token_file)

    def listener_options(self) -> ListenerOptions:
        """Return how callers reach the data plane; reads its token file."""
        if (self.tls_certificate is None) != (self.tls_private_key is None):
            raise ConfigError(["--tls-certificate and --tls-private-key: expected both or none"])
        secret = self.data_plane_token_file
        return ListenerOptions(
            host=self.listen_host,
            port=self.envoy_port,
            timeout_seconds=self.timeout_seconds,
            token=_secret(secret) if secret else "",
            certificate=self.tls_certificate,
            private_key=self.tls_private_key,
        )

    def arguments(self) -> list[str]:
        """Return the command line that `parse` reads back as these settings."""
        values = {flag: getattr(self, _field(flag)) for flag, _ in _OPTIONS}
        values["--server-command"] = shlex.join(self.server_command)
        given = {flag: value for flag, value in values.items() if value is not None}
        return [part for flag, value in given.items() for part in (flag, str(value))]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> "AgentSettings":
        """Read the command line; `--help` and errors end the process as argparse does."""
        parser = argparse.ArgumentParser(
            prog="python -m serving.agent",
            description="Keep model servers and Envoy as the traffic plans say.",
        )
        for flag, text in _OPTIONS:
            kind = _KINDS[cls.__annotations__[_field(flag)]]
            default = getattr(cls, _field(flag), None)
            is_required = not hasattr(cls, _field(flag))
            parser.add_argument(flag, type=kind, default=default, required=is_required, help=text)
        return cls(**vars(parser.parse_args(arguments)))


_OPTIONS = (
    ("--root", "artifact root, a path"),
    ("--home", "folder for this machine's state"),
    ("--port", "loopback port of the control API"),
    ("--token-file", "file with the control API's bearer token"),
    ("--envoy-port", "port of the data plane"),
    ("--envoy-admin-port", "loopback port of Envoy's admin interface"),
    ("--supervisor-socket", "unix socket of the supervisord that owns Envoy and the servers"),
    ("--listen-host", "address that the data plane listens on"),
    ("--data-plane-token-file", "file with a bearer token that callers must send"),
    ("--tls-certificate", "PEM certificate chain for the data plane"),
    ("--tls-private-key", "PEM private key for the data plane"),
    ("--timeout-seconds", "longest that a prediction may take"),
    ("--drain-seconds", "least time between a server's last traffic and its end"),
    ("--server-ports", "ports that model servers may take; below the ephemeral ones"),
    ("--server-command", "command that starts a model server"),
)


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


def _field(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _secret(path: Path) -> str:
    try:
        secret = path.read_text().strip()
    except OSError as error:
        raise ConfigError([f"{path}: cannot read the token: {error.strerror}"]) from error
    if not secret:
        raise ConfigError([f"{path}: expected a token, found an empty file"])
    return secret
