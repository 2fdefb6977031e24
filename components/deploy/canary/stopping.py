"""A polite end: SIGTERM becomes an exception, so that a trial is not left without its judge."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from contract.errors import SlipwayError
from contract.interrupts import Terminated, raised_again


class StoppedError(SlipwayError):
    """The process was asked to end (SIGTERM) during a trial; a retry resumes it."""


@contextmanager
def stops_on_sigterm() -> Iterator[None]:
    """Leave the block with StoppedError when SIGTERM comes (in the main thread, as signals do)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with raised_again():
            yield
    except Terminated as ended:
        raise StoppedError(f"asked to end by {ended}") from ended
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _frame: FrameType | None) -> None:
    raise Terminated(signal.Signals(number).name)
