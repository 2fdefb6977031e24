"""Ctrl-C, SIGTERM and SIGHUP end a block of work in one way, and none of them is lost.

What a signal's handler raises must not be an `Exception`: the signal may come while a library runs
inside its own `try ... except Exception`, as `logging` does for each line, and would be lost.

It must not be a plain `KeyboardInterrupt` either. After one that has passed through an `exec` or
`eval` of a string, as in `dataclasses`, CPython 3.11 kills itself by SIGINT at the end of
`python -m`, even if the program has caught it: `run_eval_code_obj` (Python/pythonrun.c) notes that
exact class, and `Py_RunMain` acts on the note. After a subclass the program's exit code stays.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGTERM, signal.SIGHUP)
_OVER = 0  # no signal's number
AGAIN_SECONDS = 0.05  # longer than destructors run


class Interrupted(KeyboardInterrupt):
    """Ctrl-C (SIGINT) ends the work."""


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C's ends the work; its text is the signal's name."""


@contextmanager
def terminated_like_interrupted(*, is_once: bool = False) -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that its clean-up runs.

    In the main thread only, as signal handlers are. A handler that the block itself sets stays,
    and SIGINT's is replaced only if it is Python's own: an ignored SIGINT stays ignored.

    Args:
        is_once: Only the first signal ends the block. Later ones do nothing, so that they do not
            cut the clean-up short: for a block whose clean-up ends within a known time.
    """
    handler = _Handler(is_once)
    is_python = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    numbers = (*NUMBERS, *([signal.SIGINT] if is_python else []))
    before = [signal.signal(number, handler) for number in numbers]
    try:
        with raised_again(handler.forget):
            yield
    finally:
        for number, earlier in zip(numbers, before, strict=True):
            if signal.getsignal(number) is handler:
                signal.signal(number, earlier)


class _Handler:
    """Raises what a signal means; if told so, for the first signal only."""

    def __init__(self, is_once: bool) -> None:
        self._is_once, self._has_raised = is_once, False

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._is_once and self._has_raised:
            return
        self._has_raised = True
        raise _as_exception(number)

    def forget(self) -> None:
        """Raise for the next signal again: Python has dropped what was raised."""
        self._has_raised = False


@contextmanager
def interrupted_afterwards() -> Iterator[None]:
    """Hold interrupts back until the block is left: so that no process starts and is not known."""
    came: list[signal.Signals] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        came.append(signal.Signals(number))

    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, *NUMBERS)}
    before = {n: handler for n, handler in handlers.items() if callable(handler)}
    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        before[came[0]](came[0], None)


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


def _as_exception(number: int) -> KeyboardInterrupt:
    if number == signal.SIGINT:
        return Interrupted()
    return Terminated(signal.Signals(number).name)


@contextmanager
def raised_again(on_drop: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Send a signal again whose KeyboardInterrupt or `Terminated` Python has dropped.

    Python drops what is raised while a destructor or a weak reference's callback runs, of which
    an import alone has one per module; the work would continue to its end.

    Args:
        on_drop: Called before the signal is sent again.
    """
    lost: SimpleQueue[int] = SimpleQueue()  # may be put into at any point, also by a destructor
    before = sys.unraisablehook

    def note(dropped: "sys.UnraisableHookArgs") -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            on_drop()
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
