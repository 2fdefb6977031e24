"""A process that runs users' code and leaves nothing behind."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or minus the signal, and what it wrote."""

    code: int
    stdout: str
    stderr: str


def run_apart(
    command: Sequence[str], said: str, environment: Mapping[str, str], folder: Path
) -> Ended:
    """Run a command as a process group and return how the command ended; then end the whole group.

    Children that it leaves may hold its outputs open: they are files in memory, because the end of
    a pipe would be waited for as long as these children live.

    Args:
        command: What to run.
        said: Its standard input.
        environment: All of its variables.
        folder: Where it runs.
    """
    with _in_memory("stdout") as output, _in_memory("stderr") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
        try:
            process.communicate(said.encode())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return Ended(process.returncode, _content(output), _content(errors))


@contextlib.contextmanager
def _in_memory(name: str) -> Iterator[int]:
    descriptor = os.memfd_create(name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")
