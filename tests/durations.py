"""Writes what each test took, wall clock and CPU, to a CSV file (`--durations-file`).

CPU seconds are those of the test's own process and of its descendants, ended and running. A service
that has left them, such as supervisord and what it starts, is not counted.
"""

import csv
import os
import resource
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    running = sum(map(_ticks, _descendants("self"))) / os.sysconf("SC_CLK_TCK")
    return sum(one.ru_utime + one.ru_stime for one in used) + running


def _descendants(process: str) -> list[str]:
    found: list[str] = []
    for task in Path("/proc", process, "task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # the thread has ended
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found


def _ticks(process: str) -> int:
    """Return what a process has used, and its children that it has waited for."""
    try:
        fields = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime; see proc(5)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--durations-file", help="write what each test took to this CSV file")


def pytest_configure(config: pytest.Config) -> None:
    place = config.getoption("--durations-file")
    if place and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Table(Path(place)))


_since = {"cpu": 0.0}


def pytest_collection_finish() -> None:
    _since["cpu"] = _cpu_seconds()  # imports are nobody's: not the first test's


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    report, now = outcome.get_result(), _cpu_seconds()
    report.user_properties.append((f"cpu_{report.when}", now - _since["cpu"]))
    _since["cpu"] = now


class _Table:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, dict[str, float]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        row = self._rows.setdefault(report.nodeid, {})
        row[f"wall_{report.when}"] = report.duration
        for name, value in report.user_properties:
            if str(name).startswith("cpu_"):
                row[str(name)] = float(str(value))

    def pytest_sessionfinish(self) -> None:
        phases = [f"{k}_{w}" for k in ("wall", "cpu") for w in ("setup", "call", "teardown")]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["test", *phases])
            for test, row in self._rows.items():
                rows.writerow([test, *(f"{row.get(p, 0.0):.3f}" for p in phases)])
