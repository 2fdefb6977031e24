"""Users' code runs apart, and what it leaves behind does not hold anybody up."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from cli.checks.separate_process import Ended, run_apart


def run(script: str, folder: Path, said: str = "") -> Ended:
    return run_apart([sys.executable, "-c", script], said, dict(os.environ), folder)


@pytest.mark.parametrize(
    ("script", "code"),
    [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 11)", -11), ("pass", 0)],
)
def test_the_code_is_the_commands(script: str, code: int, tmp_path: Path) -> None:
    assert run(script, tmp_path).code == code


def test_both_outputs_come_whole_and_input_is_read(tmp_path: Path) -> None:
    script = (
        "import os, sys; text = sys.stdin.read(); sys.stdout.write(text * 100_000)\n"
        "sys.stdout.flush(); os.write(2, b'\\xff' + os.getcwd().encode())"
    )
    ended = run(script, tmp_path, "näh")
    assert ended.stdout == "näh" * 100_000
    assert ended.stderr == f"�{tmp_path}"


def test_a_child_that_is_left_is_ended_and_not_waited_for(tmp_path: Path) -> None:
    script = (
        "import os, time\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(600)\n"
        "os.write(1, str(child).encode()); os._exit(5)"
    )
    started = time.monotonic()
    ended = run(script, tmp_path)
    assert ended.code == 5
    assert time.monotonic() - started < 60
    left = int(ended.stdout)
    until = time.monotonic() + 60
    while psutil.pid_exists(left) and psutil.Process(left).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "the child lives"
        time.sleep(0.02)
