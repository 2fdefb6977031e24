"""A process that has imported what components import, and forks one for each request.

`python -m launching.processes.warm_parent SOCKET --preload MODULE...`. It only imports and runs
nothing, so no thread of TensorFlow exists when it forks. A forked process has its own session, its
own group and a guard, as a fresh one has. It ends with its starter, not with this parent.

The parent ends when the code is newer than itself, when it has grown, and with `--tied` when its
standard input closes.
"""

import argparse
import contextlib
import gc
import importlib
import logging
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from launching.processes.fork_request import (
    GO,
    MESSAGE_BYTES,
    ForkRequest,
    answer,
    code_digest,
)
from launching.processes.guard import look_after, outlive_sigterm
from launching.processes.listening import listen, remove_own
from launching.processes.must_equal import difference
from launching.processes.python_command import (
    is_forkable,
    prepare_logging,
    prepare_titles,
    run_forked,
)
from launching.processes.readable import readable

_WAIT_SECONDS = 1.0
_REQUEST_SECONDS = 5.0
_MAY_GROW_BYTES = 256 << 20
_LIFELINE = 0
_BLOCKED = frozenset({signal.SIGTERM, signal.SIGINT})

log = logging.getLogger("slipway.warm_parent")


class _RefusedError(Exception):
    """A fork cannot serve the request; the text says why."""


@dataclass
class WarmParent:
    """Listens on a socket and forks. It ends when its `lifeline`, a descriptor, is closed."""

    listener: socket.socket
    lifeline: int | None = None
    is_ending: bool = False
    forks: int = 0
    code: str = field(default_factory=code_digest)
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    _first_bytes: int = 0

    def preload(self, modules: Sequence[str]) -> None:
        """Import modules one by one, and serve between two imports any request that waits.

        No collection of garbage runs meanwhile: it examined the same objects again and again, for
        1.4 of 4.9 CPU seconds, and freed nothing that could be measured.
        """
        gc.disable()
        for module in modules:
            importlib.import_module(module)
            self._await(0.0)
            self._serve_pending()
            if self.is_ending:
                return
        gc.freeze()  # a collection in a child would copy every page that holds an object
        gc.enable()
        self._first_bytes = _resident_bytes()

    def serve(self) -> None:
        """Fork on request until there is a reason to end."""
        while not self.is_ending:
            self._await(_WAIT_SECONDS)
            self._serve_pending()
            _reap()
            if _resident_bytes() > self._first_bytes + _MAY_GROW_BYTES:
                log.warning("ending: it has grown from %d bytes", self._first_bytes)
                self.is_ending = True

    def end(self, signum: int, frame: FrameType | None) -> None:
        """End after the request under way; forked processes continue."""
        del signum, frame
        self.is_ending = True

    def _await(self, seconds: float) -> None:
        lifeline = () if self.lifeline is None else (self.lifeline,)
        ready = readable((self.listener.fileno(), *lifeline), seconds)
        if self.lifeline in ready and not os.read(self.lifeline, 1):
            self.is_ending = True

    def _serve_pending(self) -> None:
        while not self.is_ending:
            try:
                connection, _ = self.listener.accept()
            except BlockingIOError:
                return
            with connection:
                self._serve_one(connection)

    def _serve_one(self, connection: socket.socket) -> None:
        connection.settimeout(_REQUEST_SECONDS)
        descriptors: list[int] = []
        try:
            message, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 2)
            request = ForkRequest.decoded(message)
            self._check(request, _peer_user(connection), len(descriptors))
            self._fork(request, connection, *descriptors)
        except _RefusedError as reason:
            answer(connection, refused=str(reason))
        except Exception as error:  # noqa: BLE001  # whatever was sent, the next is served
            answer(connection, refused=f"{type(error).__name__}: {error}")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _check(self, request: ForkRequest, user: int, descriptors: int) -> None:
        if user != os.getuid():
            raise _RefusedError(f"user {user} is not the warm parent's")
        if descriptors != 2 or not is_forkable(request.command):
            raise _RefusedError(f"expected a command of {sys.executable} -m or -c")
        if request.code != self.code:
            self.is_ending = True
            raise _RefusedError("the code, the lock file or a package has changed since its start")
        if reason := difference(request, self.environment, os.environ):
            raise _RefusedError(reason)

    def _fork(self, request: ForkRequest, connection: socket.socket, out: int, lock: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise _RefusedError(f"cannot fork: {error.strerror}") from error
        if pid == 0:
            self._be_guard(request, connection, out, lock)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.forks += 1

    def _be_guard(
        self, request: ForkRequest, connection: socket.socket, out: int, lock: int
    ) -> NoReturn:
        """In the forked process: lead a group, fork the command, look after it, report its end."""
        try:
            self.listener.close()
            connection.settimeout(None)
            _inherit(request, self._environment_of(request), out)
            os.set_inheritable(lock, True)  # held as long as the command or its child lives
            outlive_sigterm()
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command sets its own
        except Exception as error:  # noqa: BLE001  # the forking process's code must not run here
            answer(connection, refused=f"{type(error).__name__}: {error}")
            os._exit(1)
        _guard(request, connection)

    def _environment_of(self, request: ForkRequest) -> dict[str, str]:
        """Return the request's variables, changed as the imports would have changed them."""
        changed = {k: v for k, v in os.environ.items() if self.environment.get(k) != v}
        own, asked = self.environment, request.environment
        return {**asked, **{k: v for k, v in changed.items() if own.get(k) == asked.get(k)}}


def _guard(request: ForkRequest, connection: socket.socket) -> NoReturn:
    answer(connection, pid=os.getpid())
    if not _is_wanted(connection):
        os._exit(1)
    code = 1  # a connection lost from here on is a lost process
    try:
        command = os.fork()
        if command == 0:
            connection.close()
            run_forked(request.command)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
        code = look_after(command, connection.fileno(), request.grace_seconds)
    except Exception as error:  # noqa: BLE001
        os.write(2, f"cannot be started: {type(error).__name__}: {error}\n".encode())
    finally:
        answer(connection, exit_code=code)
        os._exit(code)


def _is_wanted(connection: socket.socket) -> bool:
    """Wait for the starter's word; without it the starter takes the process as not started."""
    try:
        return connection.recv(len(GO)) == GO
    except OSError:
        return False


def _inherit(request: ForkRequest, environment: dict[str, str], output: int) -> None:
    """Take over from the starter what its own child would have from it."""
    os.setsid()
    for stream in (1, 2):
        os.dup2(output, stream)
    if output > 2:  # a further copy would keep a pipe open that the command closes
        os.close(output)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for name, (soft, hard) in request.limits.items():
        resource.setrlimit(getattr(resource, name), (soft, hard))
    os.umask(request.umask)
    os.sched_setaffinity(0, request.cores)
    if request.niceness != os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, request.niceness)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(environment)


def _peer_user(connection: socket.socket) -> int:
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", credentials)[1])


def _resident_bytes() -> int:
    return (
        int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        * resource.getpagesize()
    )


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    """Import, fork on request, and remove the socket at the end."""
    parser = argparse.ArgumentParser(
        prog="python -m launching.processes.warm_parent",
        description="Import modules once and fork component processes on request.",
    )
    parser.add_argument("socket", type=Path, help="where to listen")
    parser.add_argument("--preload", nargs="*", default=[], metavar="MODULE", help="what to import")
    parser.add_argument("--tied", action="store_true", help="end when standard input closes")
    options = parser.parse_args()
    _log_to_stdout()
    prepare_titles()
    prepare_logging()
    started = time.monotonic()
    with listen(options.socket) as listener:
        own = options.socket.stat().st_ino
        parent = WarmParent(listener, _LIFELINE if options.tied else None)
        _at_end(lambda *_: _leave(options.socket, own))  # an import may take many seconds
        parent.preload(options.preload)
        _at_end(parent.end)
        log.info("warm after %.1f s", time.monotonic() - started)
        parent.serve()
        remove_own(options.socket, own)
    log.info("ended after %d forks", parent.forks)


def _at_end(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in _BLOCKED:
        signal.signal(number, handler)


def _leave(path: Path, inode: int) -> NoReturn:
    remove_own(path, inode)
    os._exit(0)


def _log_to_stdout() -> None:
    """Log by a handler of this module's logger: the root logger is for the commands to set up."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


if __name__ == "__main__":
    main()
