"""What `slipway up` tells the agent to start model servers with."""

import shlex
import sys
from pathlib import Path

import pytest

from cli.stack.stack import DataPlaneOptions, Plan
from launching.processes.warm_start import socket_of

FRESH = [sys.executable, "-m", "serving.server"]


def server_command(home: Path, monkeypatch: pytest.MonkeyPatch, start: str) -> list[str]:
    runtime = home / "runtime.yaml"
    runtime.write_text(f"kind: local\nprocesses: {{ start: {start} }}\n")
    monkeypatch.setenv("SLIPWAY_RUNTIME", str(runtime))
    monkeypatch.setenv("SLIPWAY_HOME", str(home))
    ports = dict.fromkeys(("agent", "data_plane", "envoy_admin", "mlflow", "airflow"), 1)
    arguments = Plan(home, ports, False, DataPlaneOptions()).agent.arguments()
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
