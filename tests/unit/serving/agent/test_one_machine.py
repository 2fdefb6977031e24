import configparser
import re
from pathlib import Path

import pytest

from contract.errors import ConfigError
from serving.agent.one_machine import supervisord
from serving.supervisord.configuration import socket_path


def options(folder: Path, socket: Path) -> list[str]:
    paths = {"--root": "artifacts", "--home": ".", "--token-file": "token"}
    ports = {"--port": "1", "--envoy-port": "2"}
    given = {flag: str(folder / path) for flag, path in paths.items()} | ports
    given["--supervisor-socket"] = str(socket)
    return [word for pair in given.items() for word in pair]


def test_a_container_keeps_envoy_and_agent_and_makes_the_token_once(tmp_path: Path) -> None:
    command = supervisord(options(tmp_path, socket_path(tmp_path / "supervisor")))
    token = (tmp_path / "token").read_text()
    supervisord(options(tmp_path, socket_path(tmp_path / "supervisor")))
    assert "--nodaemon" in command
    assert len(token) > 30
    assert (tmp_path / "token").read_text() == token
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    written = configparser.RawConfigParser()
    written.read((tmp_path / "supervisor" / "conf.d").glob("*.conf"))
    assert set(written) == {"DEFAULT", "program:agent", "program:envoy"}
    assert f"--root {tmp_path}/artifacts" in written["program:agent"]["command"]


def test_a_socket_that_nobody_will_listen_on_is_refused(tmp_path: Path) -> None:
    expected = re.escape(f"--supervisor-socket: expected {socket_path(tmp_path / 'supervisor')}")
    with pytest.raises(ConfigError, match=expected):
        supervisord(options(tmp_path, tmp_path / "elsewhere"))
