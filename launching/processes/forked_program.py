"""A program as a fork of a warm parent, for a supervisor or a step that starts commands.

`python -m launching.processes.forked_program SOCKET COMMAND...` asks the warm parent that listens
on SOCKET to fork the command. To the supervisor this process is the program: it passes SIGTERM and
SIGINT on and ends with the program's exit code or by the same signal. When it is killed, the
program is ended, and the next start waits for that. Where no warm parent serves the command, this
process becomes the command itself (`exec`), and a line says why.
"""

import contextlib
import hashlib
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from launching.environment import component_environment
from launching.processes.process_start import ProcessStart
from launching.processes.step_process import note_holder, take_lock
from launching.processes.warm_start import ForkedProcess, NotWarmError, fork

# From SIGTERM to SIGKILL for a program whose supervised process was killed: nobody waits for it.
_GRACE_SECONDS = 1.0
_PASSED_ON = frozenset({signal.SIGTERM, signal.SIGINT})
_STDOUT = 1


def command_of(parent: Path, command: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs another one as a fork of the warm parent at a socket."""
    module = "launching.processes.forked_program"
    return (sys.executable, "-m", module, str(parent), *command)


def main() -> NoReturn:
    """Run the command line's command and end as it ends."""
    parent, command = Path(sys.argv[1]), tuple(sys.argv[2:])
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    process = _forked(parent, command)
    if process is None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        os.execv(command[0], command)

    def pass_on(signum: int, frame: FrameType | None) -> None:
        del frame
        _signal_group(process.pid, signum)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    code = process.wait()
    _signal_group(process.pid, signal.SIGKILL)  # of a lost one the guard is gone
    if not _name():
        _lock_of(parent, command).unlink(missing_ok=True)  # nobody starts this command again
    _end_as(code)


def _forked(parent: Path, command: tuple[str, ...]) -> ForkedProcess | None:
    """Fork the command; None if it cannot be, which is said on standard output."""
    environment = component_environment(os.environ, None)
    start = ProcessStart(command, environment, Path.cwd(), _GRACE_SECONDS)
    try:
        lock = take_lock(_lock_of(parent, command), _GRACE_SECONDS)
    except OSError as reason:  # a full disk, a folder that cannot be written
        _say_fresh(reason)
        return None
    try:
        process = fork(parent, start, lock, _STDOUT)
        note_holder(lock, process.pid)
        return process
    except NotWarmError as reason:
        _say_fresh(reason)
        return None
    finally:
        os.close(lock)  # the fork and its children hold it


def _say_fresh(reason: Exception) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    with contextlib.suppress(OSError):  # the disk of the log may be full
        os.write(_STDOUT, f"{now} INFO started as a fresh process: {reason}\n".encode())


def _lock_of(parent: Path, command: tuple[str, ...]) -> Path:
    """Return the lock that lets a program's next start wait for the end of the last one."""
    digest = hashlib.sha256("\0".join(command).encode(errors="surrogateescape")).hexdigest()
    name = _name() or digest[:16]
    return parent.parent / "programs" / f"{name}.lock"


def _name() -> str:
    """Return the name of the program that supervisord keeps; empty for another starter's."""
    return os.environ.get("SUPERVISOR_PROCESS_NAME", "")


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _end_as(code: int) -> NoReturn:
    """End with an exit code, or by the signal that it stands for (128 + signal; below 0: lost)."""
    number = -code if code < 0 else code - 128
    if number in signal.valid_signals():
        _, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))  # the program has left one, if any
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(code)


if __name__ == "__main__":
    main()
