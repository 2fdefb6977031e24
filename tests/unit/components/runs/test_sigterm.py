"""SIGTERM ends a component's work wherever it arrives, also where a library catches exceptions."""

import io
import logging
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from components.deploy.canary.stopping import StoppedError, stops_on_sigterm
from components.train.train import termination
from contract.errors import SlipwayError

BLOCKS: dict[str, tuple[Callable[[], AbstractContextManager[object]], type[BaseException], str]] = {
    "train": (termination, SlipwayError, "train: SIGTERM before the first step"),
    "deploy": (stops_on_sigterm, StoppedError, "asked to end by SIGTERM"),
}


class SignalledStream(io.StringIO):
    """A log file during whose write the signal comes."""

    def write(self, text: str) -> int:
        signal.raise_signal(signal.SIGTERM)
        return super().write(text)


class Signalled:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def log_a_line() -> None:
    handler = logging.StreamHandler(SignalledStream())
    handler.handle(logging.makeLogRecord({"msg": "waiting for worker-0"}))


def destroy_an_object() -> None:
    Signalled()


@pytest.mark.parametrize("happening", [log_a_line, destroy_an_object])
@pytest.mark.parametrize("name", BLOCKS)
def test_the_signal_is_not_lost(name: str, happening: Callable[[], None]) -> None:
    block, error, text = BLOCKS[name]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(error, match=text), block():
        happening()
        time.sleep(10)
    assert signal.getsignal(signal.SIGTERM) is before
