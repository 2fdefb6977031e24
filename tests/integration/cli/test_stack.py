"""The services of one machine, without Airflow: up, what answers, down, nothing left."""

import json
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from alive import is_alive
from typer.testing import CliRunner

from cli.main import app
from cli.requests.data_plane import caller_headers
from contract.records.stack import Stack
from launching.environment import component_environment
from launching.processes.process_start import ProcessStart
from launching.processes.step_process import StepProcess
from launching.processes.warm_start import socket_of

runner = CliRunner()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The state folder of this test; whatever a failed test leaves running is stopped."""
    yield tmp_path / "slipway-home"
    runner.invoke(app, ["down"])


def up(*more: str) -> Stack:
    result = runner.invoke(app, ["up", "--without-airflow", "--json", *more])
    assert result.exit_code == 0, result.stderr
    return Stack.model_validate(json.loads(result.stdout))


def left_running(home: Path) -> list[str]:
    """Return the command lines of this user's processes that have to do with a state folder."""
    own = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):
        words = [*(process.info["cmdline"] or ()), *(process.info["environ"] or {}).values()]
        if process.pid not in own and any(str(home) in word for word in words):
            found.append(" ".join(process.info["cmdline"] or ()))
    return found


def test_up_starts_services_that_answer_and_down_leaves_nothing(home: Path) -> None:
    stack = up()
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"{stack.agent_url}/healthz").is_success
        assert client.get(f"{stack.tracking_uri}/health").is_success
        absent = client.post(f"{stack.data_plane_url}/v1/models/digits:predict", json={})
        assert absent.status_code == 404
        # nobody gets at the plan without the token
        assert client.get(f"{stack.agent_url}/v1/pipelines/digits/plan").status_code == 401
    assert Stack.read(home / "stack.json") == stack
    assert stat.S_IMODE(Path(stack.agent_token_file).stat().st_mode) == 0o600

    again = up()
    assert again == stack

    assert runner.invoke(app, ["down"]).exit_code == 0
    assert left_running(home) == []
    assert not (home / "stack.json").exists()
    assert up() == stack, "the same ports after a restart"


def test_a_killed_warm_parent_is_replaced_and_down_ends_what_it_forked(
    home: Path, tmp_path: Path
) -> None:
    up()

    def start(script: str) -> tuple[StepProcess, str]:
        command = (sys.executable, "-c", script)
        how = ProcessStart(command, component_environment(os.environ, None), tmp_path)
        process = StepProcess(how, tmp_path / "lock", socket_of(home))
        return process, next(process.lines(lambda: None))

    wait_for(socket_of(home).exists)  # `up` does not
    processes = psutil.process_iter(["cmdline"])  # None: it has ended since
    # The agent's command line names the socket, too: its servers are to be forked there.
    words = ("launching.processes.warm_parent", str(socket_of(home)))
    (warm,) = (p for p in processes if all(w in str(p.info["cmdline"]) for w in words))
    warm.kill()
    wait_for(lambda: start("print('forked')")[1] == "forked")  # else: why it is a fresh process
    before = socket_of(home).stat().st_ino
    up()
    assert socket_of(home).stat().st_ino == before, "a second `up` leaves it as it is"
    process, pid = start("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    assert runner.invoke(app, ["down"]).exit_code == 0
    assert process.wait() != 0
    assert not is_alive(int(pid))
    assert left_running(home) == []


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_callers_without_the_token_are_turned_away(home: Path, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("open sesame")
    stack = up("--data-plane-token-file", str(token_file))
    url = f"{stack.data_plane_url}/v1/models/digits:predict"
    with httpx.Client(trust_env=False) as client:
        assert client.post(url, json={}).status_code == 401
        known = client.post(url, json={}, headers=caller_headers(stack))
    assert known.status_code == 404


def test_other_ports_for_running_services_are_refused(home: Path) -> None:
    up()
    result = runner.invoke(app, ["up", "--without-airflow", "--port", "agent=1"])
    assert result.exit_code == 2
    assert "the services run on other ports" in result.stderr


def test_a_service_that_cannot_start_is_named_with_its_log_and_nothing_stays(home: Path) -> None:
    with socket.socket() as other:  # port ours to take between the choice and the start
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (home / "mlflow").mkdir(parents=True)
        (home / "mlflow" / "mlflow.db").write_text("this is no database")
        result = runner.invoke(app, ["up", "--without-airflow", "--port", f"agent={port}"])
        assert result.exit_code == 2
        assert f"agent={port}: in use by another program" in result.stderr
    result = runner.invoke(app, ["up", "--without-airflow"])
    assert result.exit_code == 1
    assert "mlflow did not start: it ended" in result.stderr  # and not: not healthy after 180 s
    assert "file is not a database" in result.stderr
    assert left_running(home) == []
