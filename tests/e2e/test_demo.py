"""The demo as a stranger without a terminal sees it: three acts, an answer, and nothing left."""

import re
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from demo_process import await_none_left, start

from cli.runs.airflow_api import airflow_password
from contract.records.stack import Stack

pytestmark = pytest.mark.long

DEMO_SECONDS = 1500  # nine minutes on two idle cores; tests share theirs


def promoted_models(home: Path) -> list[str]:
    """Ask the demo's Airflow for the asset events of models deployed."""
    stack = Stack.read(home / "stack.json")
    login = {"username": stack.airflow_user, "password": airflow_password(stack)}
    with httpx.Client(base_url=stack.airflow_url, trust_env=False) as client:
        token = client.post("/auth/token", json=login).json()["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        events = client.get("/api/v2/assets/events", headers=headers).json()["asset_events"]
    return [event["uri"] for event in events]


@pytest.mark.timeout(DEMO_SECONDS)
def test_the_three_acts_end_as_they_should(tmp_path: Path) -> None:
    demo, said, events = start(tmp_path, "cli.demo"), "", None
    assert demo.stdout is not None
    for line in demo.stdout:
        said += line
        if events is None and line.startswith("✓ promoted"):
            (home,) = tmp_path.glob("slipway-demo-*")
            events = promoted_models(home)

    assert demo.wait() == 0, said[-5000:]
    assert events == ["slipway://digits/model"]
    assert "ingest: running (about" in said, "how long act 1 will take is told from its beginning"
    assert re.findall(r"^✓ (\w+)", said, re.MULTILINE) == ["promoted", "promoted", "rolled_back"]
    errors = [int(n.replace(",", "")) for n in re.findall(r"requests; ([\d,]+) failed", said)]
    assert errors[0] == 0, "a good canary costs no caller anything"
    assert errors[1] > 0, "act 3's faults reach some callers before the roll-back"
    assert re.search(r"^curl -s http://127\.0\.0\.1:\d+/v1/models/digits:predict", said, re.M)
    assert "Version 2 answers:" in said
    judged = r"rolled back after [\d,]+ canary requests .*: errors decided, evidence [\d,]+"
    assert re.search(judged, " ".join(said.split())), "the judge says what decided"
    sizes = re.search(r"^Size +([\d,]+) → ([\d,]+) KiB", said, re.M)
    assert sizes, said[-5000:]
    before, after = (int(size.replace(",", "")) for size in sizes.groups())
    assert after < before, "int8 was tried, judged and kept"
    assert re.search(r"^Engine +tensorflow → ", said, re.M), said[-5000:]
    await_none_left(tmp_path)
    assert list(tmp_path.glob("slipway-demo-*")) == []


def interrupt(demo: "subprocess.Popen[str]", number: signal.Signals, temporary: Path) -> None:
    """Interrupt a demo, more than once, as impatient people do; see that it leaves nothing."""
    for sent in (number, signal.SIGINT, signal.SIGTERM):
        demo.send_signal(sent)
        time.sleep(0.05)
    said, _ = demo.communicate()
    assert demo.returncode == 130, said[-5000:]
    await_none_left(temporary)
    assert list(temporary.glob("slipway-demo-*")) == []


@pytest.mark.thorough  # the same clean-up as below, of more processes
@pytest.mark.timeout(DEMO_SECONDS)
def test_a_demo_that_is_terminated_in_mid_run_leaves_nothing(tmp_path: Path) -> None:
    demo = start(tmp_path, "cli.demo")
    assert demo.stdout is not None
    said = ""
    while "ingest: running" not in said:
        line = demo.stdout.readline()
        assert line, f"the demo ended before its first step ran:\n{said}"
        said += line
    interrupt(demo, signal.SIGTERM, tmp_path)


@pytest.mark.timeout(DEMO_SECONDS)
def test_a_demo_that_is_interrupted_while_services_start_leaves_nothing(tmp_path: Path) -> None:
    demo = start(tmp_path, "cli.demo")
    while not list(tmp_path.glob("slipway-demo-*/logs/mlflow.log")):
        assert demo.poll() is None
        time.sleep(0.1)
    interrupt(demo, signal.SIGINT, tmp_path)
