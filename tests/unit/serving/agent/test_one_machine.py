import configparser
from pathlib import Path

import pytest

from contract.errors import ConfigError
from serving.agent.one_machine import supervisord


def options(folder: Path, socket: str) -> list[str]:
    paths = {"--root": "artifacts", "--home": ".", "--token-file": "token"}
    paths["--supervisor-socket"] = socket
    ports = {"--port": "1", "--envoy-port": "2", "--envoy-admin-port": "3"}
    given = {flag: str(folder / path) for flag, path in paths.items()} | ports
    return [word for pair in given.items() for word in pair]


def test_a_container_keeps_envoy_and_agent_and_makes_the_token_once(tmp_path: Path) -> None:
    command = supervisord(options(tmp_path, "supervisor/supervisor.sock"))
    token = (tmp_path / "token").read_text()
    supervisord(options(tmp_path, "supervisor/supervisor.sock"))
    assert "--nodaemon" in command
    assert len(token) > 30
    assert (tmp_path / "token").read_text() == token
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    written = configparser.RawConfigParser()
    written.read((tmp_path / "supervisor" / "conf.d").glob("*.conf"))
    assert set(written) == {"DEFAULT", "program:agent", "program:envoy"}
    assert f"--root {tmp_path}/artifacts" in written["program:agent"]["command"]


def test_a_socket_that_nobody_will_listen_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--supervisor-socket: expected .*/supervisor.sock"):
        supervisord(options(tmp_path, "elsewhere"))
