"""The services of one machine, without Airflow: up, what answers, down, nothing left."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

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
from serving.supervisord.supervision import Supervisor

runner = CliRunner()


class StartedTwice(NamedTuple):
    """The services of a state folder, and what each of two starts made and told of them."""

    home: Path
    stacks: list[Stack]
    said: list[str]


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


def test_up_starts_services_that_answer_and_down_leaves_nothing(home: Path, tmp_path: Path) -> None:
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

    # supervisord dies: the next `up` adopts the Envoys, and ends the programs that hold other ports
    supervisor = Supervisor(home / "supervisor")
    before = {name: program.pid for name, program in supervisor.states().items()}
    envoys = {name: pid for name, pid in before.items() if name.startswith("envoy")}
    ports = (home / "ports.json").read_text()
    supervisord = int((home / "supervisor" / "supervisord.pid").read_text())
    os.kill(supervisord, signal.SIGKILL)
    wait_for(lambda: not is_alive(supervisord))
    again = up()
    assert again == stack, "callers keep their address"
    assert (home / "ports.json").read_text() == ports
    after = {name: program.pid for name, program in supervisor.states().items()}
    assert {name: after[name] for name in envoys} == envoys
    wait_for(lambda: not any(is_alive(pid) for name, pid in before.items() if name not in envoys))
    assert len([*(home / "backups").glob("mlflow-*.db")]) in (1, 2)  # one a second

    assert runner.invoke(app, ["down"]).exit_code == 0
    wait_for(lambda: left_running(home) == [])
    assert not (home / "stack.json").exists()
    assert up() == stack, "the same ports after a restart"
    see_a_killed_warm_parent_replaced_and_down_end_what_it_forked(home, tmp_path)


def see_a_killed_warm_parent_replaced_and_down_end_what_it_forked(
    home: Path, tmp_path: Path
) -> None:

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
    wait_for(lambda: not is_alive(int(pid)))
    wait_for(lambda: left_running(home) == [])


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


# --- two starts at once, of services whose callers need a token -----------------------------------


@pytest.fixture(scope="module")
def started_twice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedTwice]:
    folder = tmp_path_factory.mktemp("twice")
    (folder / "token").write_text("open sesame")
    environment = {**os.environ, "SLIPWAY_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "slipway", "up", "--without-airflow", "--json"]
    command += ["--data-plane-token-file", str(folder / "token")]
    pipe = subprocess.PIPE
    starts = [
        subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
        for _ in range(2)
    ]
    try:
        said = [start.communicate(timeout=300) for start in starts]
        assert [start.returncode for start in starts] == [0, 0], said
        stacks = [Stack.model_validate(json.loads(out)) for out, _ in said]
        yield StartedTwice(folder / "home", stacks, [err for _, err in said])
    finally:
        runner.invoke(app, ["down"], env=environment)


def test_two_at_once_end_with_everything_running(started_twice: StartedTwice) -> None:
    one, other = started_twice.stacks
    assert one == other
    waited = (
        "held by 'slipway up', process" in err.replace("\n", " ") for err in started_twice.said
    )
    assert sum(waited) == 1
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"{one.agent_url}/healthz").is_success


def test_callers_without_the_token_are_turned_away(
    started_twice: StartedTwice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(started_twice.home))
    stack = started_twice.stacks[0]
    url = f"{stack.data_plane_url}/v1/models/digits:predict"
    with httpx.Client(trust_env=False) as client:
        assert client.post(url, json={}).status_code == 401
        known = client.post(url, json={}, headers=caller_headers(stack))
    assert known.status_code == 404


def test_other_ports_for_running_services_are_refused(
    started_twice: StartedTwice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(started_twice.home))
    result = runner.invoke(app, ["up", "--without-airflow", "--port", "agent=1"])
    assert result.exit_code == 2
    assert "the services run on other ports" in result.stderr


def test_a_damaged_database_keeps_no_model_out_of_service(home: Path) -> None:
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
    assert "mlflow was not started: its database" in result.stderr
    assert "file is not a database); there is no backup yet" in result.stderr
    stack = Stack.read(home / "stack.json")  # serving does not wait for it
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"{stack.agent_url}/healthz").is_success
