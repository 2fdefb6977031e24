"""A polite end: SIGTERM becomes an exception, so that a trial is not left without its judge."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from contract.errors import SlipwayError


class StoppedError(SlipwayError):
    """The process was asked to end (SIGTERM) in mid-trial; a retry goes on."""


@contextmanager
def stops_on_sigterm() -> Iterator[None]:
    """Raise StoppedError in the block when SIGTERM comes (in the main thread, as signals do)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(_number: int, _frame: FrameType | None) -> None:
    # A second signal must not interrupt what the first one set off.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise StoppedError("asked to end by SIGTERM")
