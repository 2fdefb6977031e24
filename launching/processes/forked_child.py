"""Children of a process that is itself a fork of a warm parent: forked again, in its own group."""

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from launching.processes.python_command import run_forked

_BLOCKED = frozenset({signal.SIGTERM, signal.SIGINT})


class ForkedChild:
    """A child of this process, with the part of `Popen` that a launcher needs."""

    def __init__(self, pid: int, stdout: IO[bytes]) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or minus the signal; None while it runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int:
        """Wait for the end and return the exit code, or minus the signal."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the child has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def fork_child(
    command: Sequence[str], environment: Mapping[str, str], unwanted: Iterable[int] = ()
) -> ForkedChild:
    """Fork a child that runs a forkable command; both of its outputs are one pipe.

    Call it in a process with one thread only.

    Args:
        command: See `python_command.is_forkable`.
        environment: The child's variables, all of them.
        unwanted: Open descriptors that the child does not need.
    """
    reader, writer = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    pid = os.fork()
    if pid == 0:
        try:
            for stream in (1, 2):
                os.dup2(writer, stream)
            for descriptor in (reader, writer, *unwanted):
                os.close(descriptor)
            os.environ.clear()
            os.environ.update(environment)
            run_forked(command)
        finally:
            os._exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(writer)
    return ForkedChild(pid, os.fdopen(reader, "rb"))
