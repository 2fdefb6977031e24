from dataclasses import replace
from pathlib import Path

import pytest

from contract.errors import ConfigError
from serving.agent.settings import ClusterSettings, MachineSettings, kubernetes_of, parse


@pytest.fixture
def settings(tmp_path) -> MachineSettings:
    (tmp_path / "token").write_text("hush\n")
    return MachineSettings(
        root=tmp_path / "root",
        home=tmp_path / "home",
        port=1,
        token_file=tmp_path / "token",
        envoy_port=2,
        supervisor_socket=tmp_path / "socket",
    )


def test_the_command_line_says_all_settings(settings) -> None:
    changed = replace(
        settings,
        listen_host="0.0.0.0",
        data_plane_token_file=Path("/tokens/callers"),
        tls_certificate=Path("/tls/cert.pem"),
        tls_private_key=Path("/tls/key.pem"),
        timeout_seconds=1.5,
        server_command=("/usr/bin/python 3", "-m", "x"),
    )
    for one in (settings, changed):
        assert parse(one.arguments()) == one


def test_a_cluster_is_another_mode_of_the_same_command(tmp_path) -> None:
    one = ClusterSettings(
        root=tmp_path,
        home=tmp_path / "home",
        port=1,
        token_file=tmp_path / "token",
        envoy_port=2,
        runtime=tmp_path / "runtime.yaml",
        envoy_token_file=tmp_path / "envoy",
    )
    assert one.arguments()[0] == "cluster"
    assert parse(one.arguments()) == one
    (tmp_path / "runtime.yaml").write_text("kind: local\n")
    with pytest.raises(ConfigError, match="section 'kubernetes' is missing"):
        kubernetes_of(one)


def test_secrets_are_files_and_do_not_stand_on_the_command_line(settings) -> None:
    assert settings.token() == "hush"
    assert "hush" not in " ".join(settings.arguments())


def test_a_missing_or_empty_token_file_is_refused(settings, tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot read the token"):
        replace(settings, token_file=tmp_path / "absent").token()
    (tmp_path / "empty").write_text(" \n")
    with pytest.raises(ConfigError, match="expected a token, found an empty file"):
        replace(settings, token_file=tmp_path / "empty").token()


def test_a_certificate_without_its_key_is_refused(settings) -> None:
    with pytest.raises(ConfigError, match="expected both or none"):
        replace(settings, tls_certificate=Path("/tls/cert.pem")).listener_options()


@pytest.mark.parametrize("text", ["9", "9-8", "a-b", "0-5", "60000-70000"])
def test_a_port_range_that_is_none_is_refused(settings, text) -> None:
    with pytest.raises(ConfigError, match="expected FIRST-LAST within 1-65535"):
        _ = replace(settings, server_ports=text).port_range


def test_a_port_range_includes_both_ends(settings) -> None:
    assert list(replace(settings, server_ports="7-9").port_range) == [7, 8, 9]
