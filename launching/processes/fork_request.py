"""What a starter asks of a warm parent, and what comes back. One connection is one process.

The starter connects and sends one request with two open files (output and lock). The guard of the
forked process answers `{"pid": ...}`, and forks the command when the starter has sent `GO`: a
starter that no longer waits has started nothing. The guard answers `{"exit_code": ...}` at its end;
the parent answers `{"refused": ...}`. The connection is also the lifeline: when the starter's end
closes, the guard ends the process group.
"""

import hashlib
import json
import os
import resource
import socket
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contract.places import CODE_FOLDER
from launching.processes.confinement import confinement
from launching.processes.process_start import ProcessStart

MESSAGE_BYTES = 1 << 20
GO = b"go"
_OUR_PACKAGES = ("contract", "components", "launching", "serving")


@dataclass(frozen=True)
class ForkRequest:
    """A Python command and what a process inherits from its starter.

    `code` and `bounds` are not handed over: there the warm parent must be equal.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    grace_seconds: float
    code: str
    umask: int
    niceness: int
    cores: tuple[int, ...]
    limits: Mapping[str, tuple[int, int]]
    bounds: Mapping[str, str]

    @classmethod
    def of(cls, start: ProcessStart) -> "ForkRequest":
        """Return the request that gives a process what this process would hand down."""
        return cls(
            command=start.command,
            environment=dict(start.environment),
            folder=str(start.folder),
            grace_seconds=start.grace_seconds,
            code=code_digest(),
            umask=_own_umask(),
            niceness=os.getpriority(os.PRIO_PROCESS, 0),
            cores=tuple(os.sched_getaffinity(0)),
            limits=_own_limits(),
            bounds=confinement(),
        )

    def encoded(self) -> bytes:
        """Return the request as one message. Bytes that are not text travel as surrogates."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decoded(cls, message: bytes) -> "ForkRequest":
        """Read a message.

        Raises:
            ValueError: If it is not JSON.
            TypeError: If its fields are not a request's.
        """
        return cls(**json.loads(message))


def _own_limits() -> dict[str, tuple[int, int]]:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def _own_umask() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("Umask:", 1)[1].split(None, 1)[0], 8)


def code_digest() -> str:
    """Return what changes with our code, the lock file, the interpreter or an installed package."""
    digest = hashlib.sha256(f"{sys.executable} {sys.version}".encode())
    packages = Path(sysconfig.get_path("purelib"))
    for path in (*_code_files(), CODE_FOLDER / "requirements" / "lock.txt", packages):
        try:
            status = path.stat()
        except OSError:
            continue
        written = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)  # no tool sets the last
        digest.update(f"{path} {written}\n".encode())
    return digest.hexdigest()


def _code_files() -> Iterator[Path]:
    for package in _OUR_PACKAGES:
        for folder, _, names in sorted(os.walk(CODE_FOLDER / package)):
            yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def answer(connection: socket.socket, **content: Any) -> None:
    """Send one answer. A starter that no longer reads does not get it."""
    try:
        connection.send(json.dumps(content).encode())
    except OSError:
        return


def received(connection: socket.socket) -> dict[str, Any]:
    """Return the next answer; empty when the other end is closed."""
    try:
        message = connection.recv(MESSAGE_BYTES)
    except ConnectionResetError:
        message = b""
    return dict(json.loads(message)) if message else {}


def address(path: Path) -> tuple[int, str]:
    """Return a socket's address, and the folder's descriptor that keeps it valid.

    An address holds 107 bytes at most; the path of a state folder may be longer.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    return folder, f"/proc/self/fd/{folder}/{path.name}"
