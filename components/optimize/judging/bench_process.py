"""The process in which cold starts are measured: a fork of this one, else a fresh one.

A fork has TensorFlow imported already. A fresh process imports it again, which costs three CPU
seconds. Only a process in which TensorFlow has not started a thread can be forked.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from components.runs.child_process import tied_to_parent
from contract.places import CODE_FOLDER

Answer = Callable[[str], str]

_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_BLOCK_BYTES = 1 << 16


class BenchProcess(Protocol):
    """A process that answers one request, a line, by one line."""

    pid: int

    def ask(self, request: str, seconds: float) -> str:
        """Send the request and return what the process wrote until it ended, killed or not.

        Raises:
            TimeoutError: If it has not ended in time.
            OSError: If a request cannot be sent to it.
        """

    def end(self) -> None:
        """Kill it and wait for its end; more than one call does nothing more."""


def may_fork() -> bool:
    """Tell whether a fork of this process can run TensorFlow, and has it imported.

    Its threads do not exist in a fork, and it would wait for them. It names them `tf_...` (its
    `ThreadPool`) and starts the first ones with the first operation.
    """
    if "tensorflow" not in sys.modules or threading.active_count() > 1:
        return False
    threads = Path("/proc/self/task").glob("*/comm")
    return not any(name.read_text(encoding="utf-8").startswith("tf_") for name in threads)


class ForkedBench:
    """A fork of this process, which waits for the request. It ends with this process."""

    def __init__(self, answer: Answer) -> None:
        """Fork. `answer` is called in the fork."""
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._requests)
            os.close(self._answers)
            _serve(answer, parent, requests, answers)
        os.close(requests)
        os.close(answers)
        self._has_ended = False

    def ask(self, request: str, seconds: float) -> str:
        """See BenchProcess."""
        until, said = time.monotonic() + seconds, b""
        waiting = select.poll()
        waiting.register(self._answers, select.POLLIN)
        os.write(self._requests, request.encode() + b"\n")
        while waiting.poll(max(0.0, until - time.monotonic()) * 1000):
            block = os.read(self._answers, _BLOCK_BYTES)
            if not block:
                return said.decode(errors="replace")
            said += block
        raise TimeoutError(f"no answer within {seconds:g} s")

    def end(self) -> None:
        """See BenchProcess."""
        if self._has_ended:
            return
        self._has_ended = True
        os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the number is not another's
        os.waitpid(self.pid, 0)
        os.close(self._requests)
        os.close(self._answers)


def _serve(answer: Answer, parent: int, requests: int, answers: int) -> NoReturn:
    """In the fork: answer the one request. Nothing of the forking process's code continues."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _die_with(parent)
        os.environ.update(_ENVIRONMENT)
        _silence()
        with os.fdopen(requests, encoding="utf-8") as lines:
            said = answer(lines.readline())
        os.write(answers, said.encode() + b"\n")
    finally:
        os._exit(0)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before
        os._exit(1)


def _silence() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


class FreshBench:
    """A fresh process, of a command that reads the request from its standard input."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            tied_to_parent(command),
            cwd=CODE_FOLDER,
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self.pid = self._process.pid

    def ask(self, request: str, seconds: float) -> str:
        """See BenchProcess."""
        try:
            return self._process.communicate(request + "\n", seconds)[0]
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"no answer within {seconds:g} s") from error

    def end(self) -> None:
        """See BenchProcess."""
        self._process.kill()
        self._process.communicate()


def in_fork(measure: Callable[[], Any]) -> Any:
    """Return what a function returns in a fork of this process, by JSON; None if it fails.

    The fork ends with this process.
    """
    reader, writer = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        try:
            _die_with(parent)
            os.write(writer, json.dumps(measure()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said) if said else None
