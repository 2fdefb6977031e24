"""A training that stands still: who notices, when, and what is said."""

import os
import threading
import time
from typing import Any

import pytest

from components.train.peers.team import leave
from components.train.watch.watchdog import Watchdog
from contract.errors import SlipwayError
from contract.schema.training import TrainConfig


class Failures:
    """Takes the first failure, and how long it was waited for."""

    def __init__(self) -> None:
        self.first: SlipwayError | None = None
        self._came = threading.Event()

    def __call__(self, error: SlipwayError) -> None:
        self.first = error
        self._came.set()

    def come_within(self, seconds: float) -> bool:
        return self._came.wait(seconds)


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"start_timeout_seconds": 60.0, "step_timeout_seconds": 0.5, **changes})


def test_a_step_that_takes_too_long_is_named_with_the_others():
    failures = Failures()
    watchdog = Watchdog(config(), failures, lambda: {"worker-0": {"step": 6.0}})
    watchdog.start(4)
    watchdog.stepped(7)
    assert failures.come_within(5)
    assert str(failures.first) == (
        "no step for 0.5 s after step 7 (train.step_timeout_seconds); the others' last steps: "
        "worker-0 at 6; training must start again from the last checkpoint"
    )


def test_the_first_step_has_the_start_timeout():
    failures = Failures()
    Watchdog(config(start_timeout_seconds=0.3), failures, dict).start(0)
    assert failures.come_within(5)
    assert "after step 0 (train.start_timeout_seconds)" in str(failures.first)


@pytest.mark.parametrize("changes", [{"eager": True}, {}])
def test_a_debugger_and_the_time_after_the_last_step_are_not_watched(changes):
    failures = Failures()
    watchdog = Watchdog(config(start_timeout_seconds=0.1, **changes), failures, dict)
    watchdog.start(0)
    if not changes:
        watchdog.stop()
    assert not failures.come_within(0.6)


def test_a_process_alone_that_hangs_ends_with_code_1():
    if (pid := os.fork()) == 0:
        watchdog = Watchdog(config(step_timeout_seconds=0.2), lambda e: leave(e.exit_code), dict)
        watchdog.start(0)
        watchdog.stepped(1)
        time.sleep(30)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
