"""What `slipway up` starts model servers and the warm parent with."""

import shlex
import sys
from pathlib import Path

import pytest

from cli.stack.stack import DataPlaneOptions, Plan, background_programs
from launching.processes.warm_start import socket_of

FRESH = [sys.executable, "-m", "serving.server"]


def plan_of(home: Path, monkeypatch: pytest.MonkeyPatch, start: str) -> Plan:
    runtime = home / "runtime.yaml"
    runtime.write_text(f"kind: local\nprocesses: {{ start: {start} }}\n")
    monkeypatch.setenv("SLIPWAY_RUNTIME", str(runtime))
    monkeypatch.setenv("SLIPWAY_HOME", str(home))
    ports = dict.fromkeys(("agent", "data_plane", "mlflow", "airflow"), 1)
    return Plan(home, ports, False, DataPlaneOptions())


def server_command(home: Path, monkeypatch: pytest.MonkeyPatch, start: str) -> list[str]:
    arguments = plan_of(home, monkeypatch, start).agent.arguments()
    return shlex.split(arguments[arguments.index("--server-command") + 1])


def test_servers_are_forks_where_there_is_a_warm_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = server_command(tmp_path, monkeypatch, "warm")
    module = "launching.processes.forked_program"
    assert command == [sys.executable, "-m", module, str(socket_of(tmp_path)), *FRESH]


def test_servers_are_fresh_processes_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server_command(tmp_path, monkeypatch, "fresh") == FRESH


def test_mlflow_does_not_count_its_users_in_what_the_warm_parent_forks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = background_programs(plan_of(tmp_path, monkeypatch, "warm"))
    assert program.environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert program.environment["DO_NOT_TRACK"] == "true"


def test_there_is_no_warm_parent_where_processes_are_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert background_programs(plan_of(tmp_path, monkeypatch, "fresh")) == []
