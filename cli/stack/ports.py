"""Loopback ports for the services: free ones, and the same again after a restart."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from contract.errors import ConfigError, did_you_mean
from contract.free_ports import free_port, is_free
from contract.storage import write_atomically

SERVICES = ("airflow", "mlflow", "agent", "data_plane", "envoy_admin")


def parse_ports(assignments: Sequence[str]) -> dict[str, int]:
    """Turn `["airflow=8080"]` into a mapping.

    Raises:
        ConfigError: If a service is unknown or a port is not one.
    """
    wanted = {}
    for assignment in assignments:
        service, _, port = assignment.partition("=")
        if service not in SERVICES:
            raise ConfigError(
                [
                    f"--port {assignment}: unknown service '{service}'"
                    f"{did_you_mean(service, SERVICES)} (known: {', '.join(SERVICES)})"
                ]
            )
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError([f"--port {assignment}: expected a port from 1 to 65535"])
        wanted[service] = int(port)
    return wanted


def choose_ports(path: Path, wanted: Mapping[str, int]) -> dict[str, int]:
    """Return a free port for each service and keep the choice in `path` for the next time.

    Requested ports are used or refused; otherwise the last ones are used if still free.

    Raises:
        ConfigError: If a requested port is in use by another program.
    """
    if taken := [
        f"--port {s}={p}: in use by another program" for s, p in wanted.items() if not is_free(p)
    ]:
        raise ConfigError([*taken, "choose another port, or none to use a free one"])
    kept: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    chosen = dict(wanted)
    for service in SERVICES:
        if service in chosen:
            continue
        last = kept.get(service)
        is_usable = last is not None and last not in chosen.values() and is_free(last)
        chosen[service] = last if is_usable and last is not None else _free_port(chosen)
    write_atomically(path, json.dumps(chosen, indent=2))
    return chosen


def kept_ports(path: Path) -> dict[str, int]:
    """Return the ports chosen last; running services use them."""
    ports: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    return ports


def _free_port(chosen: Mapping[str, int]) -> int:
    while (port := free_port()) in chosen.values():
        pass
    return port
