"""Fifty times `kill -9`, at random moments, of real trainers and evaluators on a real folder."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from components.quality.verdicts import read_verdicts
from contract.layout import RunLayout

NURSERY = Path(__file__).with_name("nursery.py")
KILLS = 50
STEPS = 150
ROLES = ("trainer", "evaluator 0", "evaluator 1", "evaluator 2")
PAUSE_SECONDS = 0.45  # between kills, on average


class Nursery:
    """Starts processes by role and kills them."""

    def __init__(self, root: Path, journal: Path) -> None:
        command = [sys.executable, str(NURSERY), str(root), str(STEPS), str(journal)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(NURSERY.parents[3])},
        )
        self._pids: dict[str, int] = {}

    def start(self, role: str) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(role, file=self._process.stdin, flush=True)
        self._pids[role] = int(self._process.stdout.readline())

    def kill(self, role: str) -> None:
        os.kill(self._pids[role], signal.SIGKILL)

    def close(self) -> None:
        for pid in self._pids.values():
            with_group = Path(f"/proc/{pid}/stat")
            if with_group.exists():
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()


@pytest.fixture
def nursery(tmp_path: Path):
    nursery = Nursery(tmp_path, tmp_path / "journal")
    yield nursery
    nursery.close()


@pytest.mark.thorough
def test_fifty_kills_neither_miss_nor_double_a_verdict_or_a_figure(nursery, tmp_path):
    run, chance = RunLayout(tmp_path, "kills", "run"), random.Random(20261121)
    for role in ROLES:
        nursery.start(role)
    time.sleep(0.5)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0, 2 * PAUSE_SECONDS))
        victim = chance.choice(ROLES)
        nursery.kill(victim)
        nursery.start(victim)
    ends = Counter({f"end {replica}": 1 for replica in range(3)})
    deadline = time.monotonic() + 90
    while Counter(lines(tmp_path, "end")) < ends and time.monotonic() < deadline:
        time.sleep(0.1)

    assert run.training_ended.exists()
    steps = list(range(1, STEPS + 1))
    verdicts = read_verdicts(run)
    assert [verdict.step for verdict in verdicts] == steps
    assert max(Counter(lines(tmp_path, "verdicts")).values()) == 1
    assert figures(tmp_path, "mean") == {v.step: v.metrics["head"]["mean"].value for v in verdicts}
    assert figures(tmp_path, "lag_seconds") == {v.step: v.lag_seconds for v in verdicts}
    assert len({verdict.judged_by.partition(".")[0] for verdict in verdicts}) == 3  # all took part


def lines(folder: Path, beginning: str) -> list[str]:
    text = (folder / "journal").read_text() if (folder / "journal").exists() else ""
    return [line for line in text.splitlines() if line.startswith(beginning)]


def figures(folder: Path, key: str) -> dict[int, float]:
    """Return the values by step, having checked that no step has two."""
    base = sqlite3.connect(folder / "journal.db")
    rows = base.execute("select step, value from metrics where key = ?", (key,)).fetchall()
    assert len(rows) == len(dict(rows))
    return dict(rows)
