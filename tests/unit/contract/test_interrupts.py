"""An interrupt ends the work, also one that comes where Python drops exceptions."""

import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from contract.interrupts import (
    interrupted_afterwards,
    started,
    terminated_like_interrupted,
)

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


# As `dataclasses` makes methods: from text, of which CPython 3.11 notes a plain KeyboardInterrupt.
PROGRAM = """
import sys
from contract.interrupts import terminated_like_interrupted

try:
    with terminated_like_interrupted():
        exec("import os, time; os.kill(os.getpid(), {number}); time.sleep(10)")
except KeyboardInterrupt:
    print("Interrupted.")
sys.exit(130)
"""


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # handlers run between two instructions


class Interrupted:
    """Its destructor is interrupted."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        time.sleep(0)  # handlers run between two instructions


class Failing:
    def __del__(self) -> None:
        raise ValueError("not an interrupt")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_the_work(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), terminated_like_interrupted():
        os.kill(os.getpid(), number)
        time.sleep(10)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_program_keeps_its_exit_code_when_a_signal_meets_code_made_from_text(
    tmp_path: Path, number: int
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM.format(number=int(number)))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-m", "program"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (130, "Interrupted.\n")


def test_a_second_signal_does_not_cut_the_clean_up_short() -> None:
    done = []
    with terminated_like_interrupted(is_once=True):
        try:
            send(signal.SIGINT)
        except KeyboardInterrupt:
            for number in SIGNALS:
                send(number)
            done.append("cleaned up")
    assert done == ["cleaned up"]


def test_a_first_signal_that_was_dropped_ends_the_work_and_a_second_does_nothing() -> None:
    done = []
    with terminated_like_interrupted(is_once=True):
        try:
            Interrupted(signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            send(signal.SIGTERM)
            done.append("cleaned up")
    assert done == ["cleaned up"]


def test_handlers_are_as_before_except_one_that_the_block_has_set() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with terminated_like_interrupted():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    after = [signal.getsignal(number) for number in SIGNALS]
    signal.signal(signal.SIGHUP, before[2])
    assert after == [*before[:2], signal.SIG_IGN]


def test_ctrl_c_stays_ignored_where_it_was() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with terminated_like_interrupted():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_one_that_meets_a_destructor_interrupts_what_follows(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), terminated_like_interrupted():
        Interrupted(number)
        time.sleep(10)


def test_one_that_meets_a_weak_references_callback_does_too() -> None:
    class Module: ...

    with pytest.raises(KeyboardInterrupt), terminated_like_interrupted():
        module = Module()
        kept = weakref.ref(module, lambda _: Interrupted(signal.SIGTERM))
        del module
        assert kept() is None
        time.sleep(10)


def test_one_is_raised_again_until_it_ends_the_work() -> None:
    with pytest.raises(KeyboardInterrupt), terminated_like_interrupted():
        for _ in range(3):
            Interrupted(signal.SIGTERM)
        time.sleep(10)


def test_work_that_has_ended_is_not_interrupted_afterwards() -> None:
    with terminated_like_interrupted():
        Interrupted(signal.SIGINT)
    time.sleep(0.2)


def test_other_exceptions_of_destructors_are_shown_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: shown.append(dropped.exc_value))
    before = sys.unraisablehook
    with terminated_like_interrupted():
        Failing()
    assert [str(error) for error in shown] == ["not an interrupt"]
    assert sys.unraisablehook is before


@pytest.mark.parametrize("number", SIGNALS)
def test_what_must_not_be_cut_in_two_is_interrupted_afterwards(number: int) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), terminated_like_interrupted():
        with interrupted_afterwards():
            os.kill(os.getpid(), number)
            time.sleep(0)
            done.append("whole")
        done.append("never")
    assert done == ["whole"]


def test_a_command_that_is_interrupted_as_it_starts_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[subprocess.Popen[bytes]] = []

    class Interrupting(subprocess.Popen[bytes]):
        def _execute_child(self, *words: Any) -> None:
            super()._execute_child(*words)  # type: ignore[misc]
            made.append(self)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)

    monkeypatch.setattr(subprocess, "Popen", Interrupting)
    with (
        pytest.raises(KeyboardInterrupt),
        terminated_like_interrupted(),
        started(["sleep", "60"]) as process,
    ):
        process.wait()
    assert [process.returncode for process in made] == [-signal.SIGKILL]


def test_a_command_that_was_waited_for_keeps_its_exit_code_and_any_other_is_killed() -> None:
    with started([sys.executable, "-c", "raise SystemExit(3)"]) as ended:
        assert ended.wait() == 3
    assert ended.returncode == 3
    with started(["sleep", "60"]) as running:
        pass
    assert running.returncode == -signal.SIGKILL
