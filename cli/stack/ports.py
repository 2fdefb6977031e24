"""Loopback ports for the services: free ones, and the same again after a restart."""

import contextlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import psutil

from contract.errors import ConfigError, did_you_mean
from contract.free_ports import free_port, is_free
from contract.storage import write_atomically

SERVICES = ("airflow", "mlflow", "agent", "data_plane")


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


def choose_ports(
    path: Path, wanted: Mapping[str, int], own: Collection[int] = ()
) -> dict[str, int]:
    """Return a free port for each service and keep the choice in `path` for the next time.

    Requested ports are used or refused, and so are the last ones: an address that callers know does
    not change by itself. A port on which only processes of `own` listen counts as free.

    Raises:
        ConfigError: If another program uses a requested port, or the last one of a service.
    """

    def is_usable(port: int) -> bool:
        return is_free(port) or (bool(own) and _is_own(port, own))

    if taken := [f"--port {s}={p}: {_in_use(p)}" for s, p in wanted.items() if not is_usable(p)]:
        raise ConfigError([*taken, "choose another port, or none to use a free one"])
    kept = {s: p for s, p in kept_ports(path).items() if s in SERVICES} if path.exists() else {}
    chosen = {**{s: p for s, p in kept.items() if p not in wanted.values()}, **wanted}
    lost = {s: p for s, p in chosen.items() if s not in wanted and not is_usable(p)}
    if named := [f"{one}: its port {port} is {_in_use(port)}" for one, port in lost.items()]:
        raise ConfigError(
            [*named, "end that program, or choose a new address: --port SERVICE=PORT"]
        )
    for service in SERVICES:
        if service not in chosen:
            chosen[service] = _free_port(chosen)
    write_atomically(path, json.dumps(chosen, indent=2))
    return chosen


def kept_ports(path: Path) -> dict[str, int]:
    """Return the ports chosen last; running services use them."""
    ports: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    return ports


def _in_use(port: int) -> str:
    """Say who listens on a port, as far as this user may know."""
    with contextlib.suppress(psutil.Error):
        for pid in _listeners(port) - {None}:
            return f"in use by another program ({psutil.Process(pid).name()}, {pid})"
    return "in use by another program"


def _is_own(port: int, own: Collection[int]) -> bool:
    listeners = _listeners(port)
    return bool(listeners) and listeners <= {*own}


def _listeners(port: int) -> set[int | None]:
    """Return who listens on a port; None stands for a process that this user may not see."""
    found = psutil.net_connections("tcp")
    return {
        one.pid
        for one in found
        if one.laddr and one.laddr.port == port and one.status == psutil.CONN_LISTEN
    }


def _free_port(chosen: Mapping[str, int]) -> int:
    while (port := free_port()) in chosen.values():
        pass
    return port
