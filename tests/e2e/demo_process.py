"""A demo as a stranger without a terminal starts it, and what it may not leave behind."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


def start(temporary: Path, *words: str) -> "subprocess.Popen[str]":
    """Start a module of ours whose home is below a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(temporary), "TMPDIR": str(temporary)},
    )


def left_running(temporary: Path) -> list[list[str]]:
    """Return the command lines of processes that name the folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = [*(process.info["cmdline"] or ()), *(process.info["environ"] or {}).values()]
        if any(str(temporary) in word for word in words):
            found.append(process.info["cmdline"])
    return found


def await_none_left(temporary: Path) -> None:
    """Wait until nothing of a demo runs: a process that was killed may need a moment to be gone."""
    until = time.monotonic() + 60
    while left_running(temporary) and time.monotonic() < until:
        time.sleep(0.2)
    assert left_running(temporary) == []
