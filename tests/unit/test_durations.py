"""What `--durations-file` promises: a row for each test, with its wall clock and CPU seconds."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
SUITE = """
import subprocess, sys, time
BUSY = "import time\\nuntil = time.process_time() + 0.3\\nwhile time.process_time() < until: pass"

def test_sleeps(): time.sleep(0.3)
def test_computes(): exec(BUSY, {})
def test_lets_a_child_compute(): subprocess.run([sys.executable, "-c", BUSY], check=True)
def test_lets_a_service_compute():
    code = f"{BUSY}\\nprint(flush=True); time.sleep(60)"
    global service
    service = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    service.stdout.readline()
def test_ends_the_service():
    service.kill()
    service.wait()
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_has_wall_and_cpu_seconds_of_each_test(tmp_path: Path, workers: int) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null"]
    command += ["--rootdir", str(tmp_path), str(tmp_path)]
    command += ["-p", "durations", "-p", "xdist", "-n", str(workers), "-p", "no:cacheprovider"]
    own = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    place = tmp_path / "new" / "durations.csv"
    subprocess.run(
        [*command, "--durations-file", str(place)],
        env={**os.environ, **own},
        check=True,
        cwd=tmp_path,
    )
    with place.open() as file:
        rows = {row["test"].rpartition("::")[2]: row for row in csv.DictReader(file)}
    assert float(rows["test_sleeps"]["wall_call"]) >= 0.3
    assert float(rows["test_sleeps"]["cpu_call"]) < 0.2
    assert float(rows["test_computes"]["cpu_call"]) >= 0.29
    for who in ("child", "service"):
        assert float(rows[f"test_lets_a_{who}_compute"]["cpu_call"]) >= 0.29
    assert float(rows["test_ends_the_service"]["cpu_call"]) < 0.1
