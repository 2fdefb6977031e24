"""Ctrl-C, SIGTERM and SIGHUP end a block of work in one way, and none of them is lost."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

NUMBERS = (signal.SIGTERM, signal.SIGHUP)
_OVER = 0  # no signal's number
AGAIN_SECONDS = 0.05  # longer than destructors run


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C's ends the command; its text is the signal's name."""


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that its clean-up runs.

    Python drops a KeyboardInterrupt that is raised while a destructor or a weak reference's
    callback runs, of which an import alone has one per module; the work would continue to its end.
    Such an interrupt is raised again.
    """
    before = [signal.signal(number, _interrupt) for number in NUMBERS]
    try:
        with _raised_again():
            yield
    finally:
        for number, handler in zip(NUMBERS, before, strict=True):
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise Terminated(signal.Signals(number).name)


@contextmanager
def _raised_again() -> Iterator[None]:
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
