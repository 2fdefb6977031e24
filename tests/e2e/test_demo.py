"""The demo as a stranger without a terminal sees it: three acts, an answer, and nothing left."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO_SECONDS = 1500  # nine minutes on two idle cores; tests share theirs


def start(temporary: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "cli.demo"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(temporary), "TMPDIR": str(temporary)},
    )


def left_running(temporary: Path) -> list[list[str]]:
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = [*(process.info["cmdline"] or ()), *(process.info["environ"] or {}).values()]
        if any(str(temporary) in word for word in words):
            found.append(process.info["cmdline"])
    return found


@pytest.mark.timeout(DEMO_SECONDS)
def test_the_three_acts_end_as_they_should(tmp_path: Path) -> None:
    demo = start(tmp_path)
    said, _ = demo.communicate()

    assert demo.returncode == 0, said[-5000:]
    assert re.findall(r"^✓ (\w+)", said, re.MULTILINE) == ["promoted", "promoted", "rolled_back"]
    errors = [int(n.replace(",", "")) for n in re.findall(r"requests; ([\d,]+) failed", said)]
    assert errors[0] == 0, "a good canary costs no caller anything"
    assert errors[1] > 0, "act 3's faults reach some callers before the roll-back"
    assert re.search(r"^curl -s http://127\.0\.0\.1:\d+/v1/models/digits:predict", said, re.M)
    assert "Version 2 answers:" in said
    sizes = re.search(r"^Size +([\d,]+) → ([\d,]+) KiB", said, re.M)
    assert sizes, said[-5000:]
    before, after = (int(size.replace(",", "")) for size in sizes.groups())
    assert after < before, "int8 was tried, judged and kept"
    assert re.search(r"^Runtime +tensorflow → ", said, re.M), said[-5000:]
    assert left_running(tmp_path) == []
    assert list(tmp_path.glob("slipway-demo-*")) == []


@pytest.mark.timeout(DEMO_SECONDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    demo = start(tmp_path)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "Started run" in line:
            break
    time.sleep(10)  # into the first steps
    demo.send_signal(number)
    demo.communicate()
    assert demo.returncode == 130
    assert left_running(tmp_path) == []
    assert list(tmp_path.glob("slipway-demo-*")) == []
