"""Ctrl-C, SIGTERM and SIGHUP end a block of work in one way, and none of them is lost.

What a signal's handler raises must not be an `Exception`: the signal may come while a library runs
inside its own `try ... except Exception`, as `logging` does for each line, and would be lost.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGTERM, signal.SIGHUP)
_OVER = 0  # no signal's number
AGAIN_SECONDS = 0.05  # longer than destructors run


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C's ends the work; its text is the signal's name."""


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that its clean-up runs.

    In the main thread only, as Python's signal handlers.
    """
    before = [signal.signal(number, _interrupt) for number in NUMBERS]
    try:
        with raised_again():
            yield
    finally:
        for number, handler in zip(NUMBERS, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def interrupted_afterwards() -> Iterator[None]:
    """Hold interrupts back until the block is left: so that no process starts and is not known."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        came.append(number)

    numbers = [n for n in (signal.SIGINT, *NUMBERS) if callable(signal.getsignal(n))]
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if came:
        raise _as_exception(came[0])


@contextmanager
def started(command: Sequence[str], **how: Any) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a process as `subprocess.Popen` does; kill it if it still runs after the block."""
    process = None
    try:
        with interrupted_afterwards():
            process = subprocess.Popen(command, **how)
        yield process
    finally:
        if process is not None:
            process.kill()  # does nothing to what has been waited for
            process.wait()


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise _as_exception(number)


def _as_exception(number: int) -> KeyboardInterrupt:
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    return Terminated(signal.Signals(number).name)


@contextmanager
def raised_again() -> Iterator[None]:
    """Send a signal again whose KeyboardInterrupt or `Terminated` Python has dropped.

    Python drops what is raised while a destructor or a weak reference's callback runs, of which
    an import alone has one per module; the work would continue to its end.
    """
    lost: SimpleQueue[int] = SimpleQueue()  # may be put into at any point, also by a destructor
    before = sys.unraisablehook

    def note(dropped: "sys.UnraisableHookArgs") -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            lost.put(_number_of(dropped.exc_value))
        else:
            before(dropped)

    sender = threading.Thread(target=_send_again, args=(lost, threading.get_ident()), daemon=True)
    sender.start()
    sys.unraisablehook = note
    try:
        yield
    finally:
        sys.unraisablehook = before
        lost.put(_OVER)
        sender.join()


def _number_of(dropped: BaseException | None) -> int:
    return signal.Signals[str(dropped)] if isinstance(dropped, Terminated) else signal.SIGINT


def _send_again(lost: "SimpleQueue[int]", thread: int) -> None:
    while number := lost.get():
        time.sleep(AGAIN_SECONDS)
        if lost.empty():  # else the block is over, or another one is on its way
            signal.pthread_kill(thread, number)
