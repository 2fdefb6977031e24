"""The unit by which systemd keeps the services."""

import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.stack import systemd
from cli.stack.systemd import BOOTED, complaint, install, unit
from contract.errors import ConfigError, UserError


def test_the_unit_starts_and_ends_the_services_with_the_same_options() -> None:
    text = unit(
        ["--port", "data_plane=8501"], Path("/srv/a b/50%"), {"SLIPWAY_RUNTIME": "x$y.yaml"}
    )
    lines = text.splitlines()
    assert f'ExecStart=-"{sys.executable}" "-m" "cli.main" "up" "--port" "data_plane=8501"' in lines
    assert f'ExecStop="{sys.executable}" "-m" "cli.main" "down"' in lines
    assert "PIDFile=/srv/a b/50%%/supervisor/supervisord.pid" in lines
    assert 'Environment="SLIPWAY_HOME=/srv/a b/50%%"' in lines
    assert 'Environment="SLIPWAY_RUNTIME=x$$y.yaml"' in lines
    assert "Restart=always" in lines


def test_a_line_break_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot hold a line break"):
        unit(["a\nb"], Path("/srv"), {})


def test_a_unit_has_absolute_paths_and_no_restore(tmp_path: Path, monkeypatch) -> None:
    """It does not run where it is written, and must not restore a backup at every start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systemd, "BOOTED", tmp_path)
    monkeypatch.setattr(systemd, "complaint", lambda _path: "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SLIPWAY_HOME", "home")
    monkeypatch.setenv("SLIPWAY_PIPELINES", "one:/two")
    Path("token").write_text("secret")
    command = ["up", "--install", "--port", "agent=7000", "--data-plane-token-file", "token"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    lines = (tmp_path / "config" / "systemd" / "user" / "slipway.service").read_text().splitlines()
    (start,) = (line for line in lines if line.startswith("ExecStart="))
    assert start.endswith(
        f'"up" "--port" "agent=7000" "--listen" "127.0.0.1" '
        f'"--data-plane-token-file" "{tmp_path}/token"'
    )
    assert f'Environment="SLIPWAY_HOME={tmp_path}/home"' in lines
    assert f'Environment="SLIPWAY_PIPELINES={tmp_path}/one:/two"' in lines
    refused = CliRunner().invoke(app, ["up", "--install", "--restore", "mlflow"])
    assert refused.exit_code == 2
    assert "restore once, without --install" in refused.output


@pytest.mark.skipif(BOOTED.is_dir(), reason="systemd has started this machine")
def test_without_systemd_nothing_is_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(UserError, match="this machine was not started by systemd"):
        install([], tmp_path / "home")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze on PATH (Debian: systemd)"
)
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "slipway.service"
    path.write_text(unit(["--without-airflow"], tmp_path, {}))
    assert complaint(path) == ""
    path.write_text(path.read_text().replace("ExecStart", "ExecBegin"))
    assert "ExecStart=" in complaint(path)
