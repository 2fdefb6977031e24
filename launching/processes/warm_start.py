"""Starting a process as a fork of a warm parent, and keeping a warm parent for one's own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from contract.addresses import TRACKING_URI
from contract.places import CODE_FOLDER
from contract.steps import STEPS
from launching.processes.fork_request import GO, MESSAGE_BYTES, ForkRequest, address, received
from launching.processes.process_start import ProcessStart
from launching.processes.python_command import is_forkable
from launching.processes.readable import readable

# The work of each component, and the libraries for it. Apache Beam comes first, because the first
# component needs it and would import it itself in the meantime. The large ones stand alone: between
# two of these modules the parent serves requests.
PRELOADED = (
    "apache_beam",
    *(STEPS[name].module for name in ("ingest", "validate")),
    *("tensorflow", "keras", "tensorflow_transform"),
    *(step.module for step in STEPS.values()),
    "mlflow",
)

_ANSWER_SECONDS = 30.0  # the parent may be in the middle of an import; a fork takes 20 ms
_LISTENING_SECONDS = 10.0
_END_SECONDS = 5.0


class NotWarmError(Exception):
    """A command cannot be forked from a warm parent now. Nothing of it has started."""


class ForkedProcess:
    """A process that a warm parent has forked, with the part of `Popen` that a starter needs."""

    def __init__(self, connection: socket.socket, pid: int, output: int | None) -> None:
        """Take over the parent's connection and the pipe with the output, if it is a pipe."""
        self.pid = pid
        self.stdout = None if output is None else os.fdopen(output, "rb")
        self._connection = connection
        self._code: int | None = None
        self._receiving = threading.Lock()  # two threads would take the one answer from each other

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs, or while another thread waits."""
        if self._code is None and self._receiving.acquire(blocking=False):
            try:
                if self._code is None and readable([self._connection.fileno()], 0.0):
                    self._receive_code()
            finally:
                self._receiving.release()
        return self._code

    def wait(self) -> int:
        """Wait for the end and return the exit code: 128 + signal for a killed command.

        It is -9 when the process is lost, which means that its guard was killed.
        """
        with self._receiving:
            if self._code is None:
                self._receive_code()
        assert self._code is not None
        return self._code

    def _receive_code(self) -> None:
        self._code = int(received(self._connection).get("exit_code", -signal.SIGKILL))
        self._connection.close()


def fork(parent: Path, start: ProcessStart, lock: int, output: int | None = None) -> ForkedProcess:
    """Start a command as a fork of the warm parent that listens on the socket `parent`.

    Args:
        lock: A descriptor that the command and its children hold open as long as they live.
        output: The descriptor that it writes to; without one `stdout` of the result is a pipe.

    Raises:
        NotWarmError: If the parent does not run, or does not serve this command.
    """
    if not is_forkable(start.command):
        raise NotWarmError(f"'{start.command[0]}' is not a command of this Python, -m or -c")
    reader, writer = os.pipe() if output is None else (None, os.dup(output))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = _forked(connection, parent, ForkRequest.of(start), (writer, lock))
        return ForkedProcess(connection, pid, reader)
    except BaseException as error:
        connection.close()
        if reader is not None:
            os.close(reader)
        if isinstance(error, OSError):
            raise NotWarmError(f"no answer at {parent}: {error.strerror or error}") from error
        raise
    finally:
        os.close(writer)


def _forked(
    connection: socket.socket, parent: Path, request: ForkRequest, descriptors: tuple[int, int]
) -> int:
    message = request.encoded()
    if len(message) > MESSAGE_BYTES:
        raise NotWarmError(
            f"its command and variables take {len(message):,} bytes, more than {MESSAGE_BYTES:,}"
        )
    connection.settimeout(_ANSWER_SECONDS)
    folder, where = address(parent)
    try:
        connection.connect(where)
    finally:
        os.close(folder)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES)
    socket.send_fds(connection, [message], descriptors)
    said = received(connection)
    if "pid" not in said:
        raise NotWarmError(str(said.get("refused", "the warm parent ended before it forked")))
    connection.send(GO)
    connection.settimeout(None)
    return int(said["pid"])


def reason_against(parent: Path, environment: Mapping[str, str]) -> str:
    """Return why a warm parent does not serve this process; empty if it forks what does nothing.

    Args:
        parent: Its socket.
        environment: The variables of what is to be forked.
    """
    start = ProcessStart((sys.executable, "-c", "pass"), environment, CODE_FOLDER)
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        code = fork(parent, start, nothing, nothing).wait()
    except NotWarmError as reason:
        return str(reason)
    finally:
        os.close(nothing)
    return f"a fork of it ended with exit code {code}" if code else ""


def socket_of(home: Path) -> Path:
    """Return where the warm parent of a state folder listens, which `slipway up` starts."""
    return home / "warm" / "parent.sock"


def preloaded_for(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the modules for components with these variables: MLflow only where they track."""
    is_tracked = bool(environment.get(TRACKING_URI))
    return tuple(module for module in PRELOADED if is_tracked or module != "mlflow")


def parent_command(
    where: Path, preloaded: Sequence[str] = PRELOADED, *, is_tied: bool = False
) -> list[str]:
    """Return the command line of a warm parent.

    Args:
        where: The socket to listen on.
        preloaded: The modules to import.
        is_tied: Let it end when its standard input closes.
    """
    command = [sys.executable, "-m", "launching.processes.warm_parent", str(where)]
    return [*command, *(["--tied"] if is_tied else []), "--preload", *preloaded]


@contextlib.contextmanager
def own_warm_parent(
    environment: Mapping[str, str], log: Path, preloaded: Sequence[str] = PRELOADED
) -> Iterator[Path]:
    """Keep a warm parent while the block runs; yield its socket. It also ends with this process.

    Args:
        environment: That of its children; `must_equal` tells which variables must be equal.
        log: Where its log goes.
        preloaded: The modules to import.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder, log.open("ab") as output:
        where = Path(folder) / "warm.sock"
        process = subprocess.Popen(
            parent_command(where, preloaded, is_tied=True),
            env=dict(environment),
            cwd=CODE_FOLDER,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _await_listening(where, process)
            yield where
        finally:
            _end(process)


def _await_listening(where: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait until it listens, long before it is warm. One that has ended is found out by `fork`."""
    until = time.monotonic() + _LISTENING_SECONDS
    while not where.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
