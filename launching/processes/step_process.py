"""A step as a process group of this machine: started, streamed line by line, ended for certain."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from contract.errors import ConflictError
from contract.programs import WARM_PARENT
from launching.processes.process_start import ProcessStart
from launching.processes.readable import readable
from launching.processes.step_locks import is_held, locked_inodes
from launching.processes.warm_start import ForkedProcess, NotWarmError, fork

_GUARD = Path(__file__).with_name("guard.py")
_TICK_SECONDS = 1.0
_TAKEOVER_SECONDS = 30.0  # beyond the grace
_RELEASE_SECONDS = 10.0  # a killed process needs milliseconds to end, on a busy machine more
_BLOCK_BYTES = 1 << 16


class StepProcess:
    """One running command. Its group ends with it, with `stop`, or with the process that began it.

    Of all processes that were started with one `lock` only the last lives: the starter ends the
    group of an earlier one, which can be there still when the worker that had begun it was lost.
    """

    def __init__(self, start: ProcessStart, lock: Path, warm_parent: Path | None = None) -> None:
        """Start the command, from a warm parent where one is named and serves it.

        Args:
            warm_parent: The socket of a warm parent. Where it does not serve this command, the
                process is a fresh one, and the first of its lines says why.

        Raises:
            ConflictError: If an earlier process of the same lock does not end.
        """
        self._grace_seconds, self._lock = start.grace_seconds, lock
        self._notes: list[str] = []
        descriptor = take_lock(lock, start.grace_seconds)
        try:
            self._process = self._started(start, descriptor, warm_parent)
            note_holder(descriptor, self._process.pid)
        finally:
            os.close(descriptor)  # the children hold it

    def _started(
        self, start: ProcessStart, lock: int, warm_parent: Path | None
    ) -> "subprocess.Popen[bytes] | ForkedProcess":
        if warm_parent is not None:
            try:
                return fork(warm_parent, _knowing(start, warm_parent), lock)
            except NotWarmError as reason:
                now = time.strftime("%Y-%m-%d %H:%M:%S")
                self._notes.append(f"{now} INFO started as a fresh process: {reason}")
        return subprocess.Popen(
            [sys.executable, "-I", str(_GUARD), str(start.grace_seconds), *start.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(start.environment),
            cwd=start.folder,
            pass_fds=(lock,),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process group's id."""
        return self._process.pid

    def lines(self, tick: Callable[[], None]) -> Iterator[str]:
        """Yield the output's lines as they come, until the process ends; `tick` about each second.

        Of a line that rewrites itself (a progress bar) only its last state is given.
        """
        yield from self._notes
        assert self._process.stdout is not None
        descriptor, rest, ticked = self._process.stdout.fileno(), b"", time.monotonic()
        while True:
            ready = readable([descriptor], _TICK_SECONDS)
            block = os.read(descriptor, _BLOCK_BYTES) if ready else None
            if block == b"" or (block is None and self._process.poll() is not None):
                break
            *lines, rest = (rest + (block or b"")).split(b"\n")
            yield from map(_readable, lines)
            if time.monotonic() - ticked >= _TICK_SECONDS:
                tick()
                ticked = time.monotonic()
        if rest:
            yield _readable(rest)

    def wait(self) -> int:
        """Wait for the end and return the exit code; nothing of the group is left."""
        code = self._process.wait()
        _signal_group(self.pid, signal.SIGKILL)
        self._await_release()
        return code

    def stop(self) -> None:
        """End the group: SIGTERM, a grace, SIGKILL. Nothing of the group is left."""
        _end_group(self.pid, lambda: self._process.poll() is not None, self._grace_seconds)
        self._await_release()

    def _await_release(self) -> None:
        """Wait until the lock is not held: until then a killed process still ends."""
        until = time.monotonic() + _RELEASE_SECONDS
        while self._is_noted() and is_held(self._lock, locked_inodes()):
            if time.monotonic() > until:
                return
            time.sleep(0.005)

    def _is_noted(self) -> bool:
        """Return whether the lock is this process's, and not already its successor's."""
        try:
            return self._lock.read_text(encoding="utf-8").strip() == str(self.pid)
        except OSError:
            return False


def _knowing(start: ProcessStart, warm_parent: Path) -> ProcessStart:
    """Return the start of a step that can fork its own programs from its warm parent."""
    known = {**start.environment, WARM_PARENT: str(warm_parent.absolute())}
    return replace(start, environment=known)


def take_lock(path: Path, grace_seconds: float) -> int:
    """Return a descriptor that holds a lock; end the group of an earlier process that holds it.

    That group's number is what the earlier starter has written into the file.

    Raises:
        ConflictError: If it does not end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    until = time.monotonic() + grace_seconds + _TAKEOVER_SECONDS
    while not _try_lock(descriptor):
        if time.monotonic() > until:
            os.close(descriptor)
            raise ConflictError(f"{path}: an earlier process of this step does not end")
        # The lock is held, so the group that is noted there lives: its number is not another's.
        if holder := os.pread(descriptor, 20, 0).strip():
            _end_group(int(holder), lambda: _try_lock(descriptor), grace_seconds)
        time.sleep(0.05)
    os.ftruncate(descriptor, 0)  # the number of a group that has ended may be another's by now
    return descriptor


def note_holder(lock: int, group: int) -> None:
    """Write the number of the group that holds a lock, for the next starter to end it.

    On a full disk there is no note: the next one then waits for the group's end.
    """
    with contextlib.suppress(OSError):
        os.pwrite(lock, f"{group:<20}".encode(), 0)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_group(group: int, has_ended: Callable[[], bool], grace_seconds: float) -> None:
    _signal_group(group, signal.SIGTERM)
    until = time.monotonic() + grace_seconds
    while not has_ended() and time.monotonic() < until:
        time.sleep(0.05)
    _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signum)


def _readable(line: bytes) -> str:
    return line.decode(errors="replace").rstrip().rsplit("\r", 1)[-1]
