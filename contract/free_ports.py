"""Ports of this machine: which are free, and finding some.

A port is chosen now, and a process listens on it later. So that nobody else gets it in between,
ports come from outside the kernel's range for outgoing connections, and those that were given out
are noted in a file for all processes of this user.
"""

import contextlib
import fcntl
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from contract.addresses import LOOPBACK

# Below them lie well-known services, above them Kubernetes' node ports (30,000 to 32,767).
_LEAST, _END = 10_000, 30_000
_FEWEST = 2_000  # fewer to choose from are too few to be found quickly
_OF_THE_KERNEL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_REGISTER = Path("/tmp")  # not $TMPDIR, which may differ between processes
_NOTED_SECONDS = 600.0  # longer than any service takes to start


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody listens on, or was given lately; all differ."""
    with _given_out() as given:
        found: list[int] = []
        for port in _candidates():
            if len(found) == count:
                return found
            if port not in given and _can_bind(port):
                given[port] = time.time()
                found.append(port)
    return found + _of_the_kernel(count - len(found))


def free_port() -> int:
    """Return a port of the loopback that nobody listens on, or was given lately."""
    (port,) = free_ports(1)
    return port


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port of the loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _has_bound(probe, port)


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        return _has_bound(probe, port)


def _has_bound(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind((LOOPBACK, port))
    except OSError:
        return False
    return True


def _candidates() -> list[int]:
    """Return our ports in random order; none where the kernel leaves too few."""
    try:
        first, last = map(int, _OF_THE_KERNEL.read_text(encoding="utf-8").split())
    except (OSError, ValueError):
        return []
    ports = [port for port in range(_LEAST, _END) if not first <= port <= last]
    random.Random(os.urandom(16)).shuffle(ports)  # processes may share the seed of `random`
    return ports if len(ports) >= _FEWEST else []


def _of_the_kernel(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind((LOOPBACK, 0))
        return [int(listener.getsockname()[1]) for listener in listeners]


@contextlib.contextmanager
def _given_out() -> Iterator[dict[int, float]]:
    """Yield the ports that were given out lately, with the time; note what the block adds.

    Without a file of this user's in /tmp nothing is known and nothing noted.
    """
    path = _REGISTER / f"slipway-ports-{os.getuid()}"
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        yield {}
        return
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        if os.fstat(descriptor).st_uid != os.getuid():
            yield {}
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        given = _parsed(file.read())
        yield given
        file.seek(0)
        file.truncate()
        file.writelines(f"{port} {noted:.0f}\n" for port, noted in given.items())


def _parsed(text: str) -> dict[int, float]:
    """Return the ports that were noted lately; a file that is not ours counts as empty."""
    try:
        pairs = [(int(port), float(noted)) for port, noted in map(str.split, text.splitlines())]
    except ValueError:
        return {}
    since = time.time() - _NOTED_SECONDS
    return {port: noted for port, noted in pairs if noted > since}
