"""Commands that need services, and services that are not there."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from contract.records.stack import Stack

runner = CliRunner()


@pytest.mark.parametrize(
    "command",
    [
        ["run", "digits"],
        ["run", "digits", "--follow"],
        ["promote", "digits"],
        ["rollback", "digits"],
        ["teardown", "digits"],
        ["rollout", "digits"],
        ["rollout", "digits", "--pause"],
    ],
)
def test_without_services_a_command_says_how_to_start_them(command: list[str]) -> None:
    result = runner.invoke(app, command)
    assert result.exit_code == 1
    assert "start them with 'slipway up'" in result.stderr


def test_force_without_a_version_is_refused() -> None:
    result = runner.invoke(app, ["promote", "digits", "--force"])
    assert result.exit_code == 2
    assert "--force: expected --version too" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pause", "--abort"], "--pause and --abort: expected at most one of them"),
        (["--resume", "--follow"], "--resume and --follow: expected one of them"),
        (["--resume", "--reason", "lunch"], "--reason: expected --pause with it"),
        (["--reason", "lunch"], "--reason: expected --pause with it"),
    ],
)
def test_rollout_does_one_thing_at_a_time(options: list[str], said: str) -> None:
    result = runner.invoke(app, ["rollout", "digits", *options])
    assert result.exit_code == 2
    assert said in result.stderr


def test_predict_without_services_says_how_to_start_them(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text("[1]")
    result = runner.invoke(app, ["predict", "digits", "--file", str(rows)])
    assert result.exit_code == 1
    assert "start them with 'slipway up'" in result.stderr


def test_run_refuses_a_wrong_override_before_anything_starts() -> None:
    result = runner.invoke(app, ["run", "digits", "--set", "train.step=5"])
    assert result.exit_code == 2
    assert "train.step: unknown key; did you mean 'steps'?" in result.stderr


@pytest.mark.parametrize("option", ["--deploy", "--no-deploy"])
def test_a_run_in_airflow_cannot_be_told_whether_to_deploy(option: str) -> None:
    result = runner.invoke(app, ["run", "digits", option])
    assert result.exit_code == 2
    assert "expected --local: a run in Airflow always continues" in result.stderr


def test_a_local_run_that_should_deploy_needs_services_before_it_starts() -> None:
    result = runner.invoke(app, ["run", "digits", "--local", "--deploy"])
    assert result.exit_code == 1
    assert "start them with 'slipway up'" in result.stderr


@pytest.mark.parametrize(("option", "is_old"), [("--resume", False), ("--continue", True)])
def test_a_run_to_resume_is_read_under_both_names(option: str, is_old: bool) -> None:
    result = runner.invoke(app, ["run", "digits", "--local", option, "local-gone"])
    assert result.exit_code == 2
    assert "digits: local run local-gone not found (latest: none)" in result.stderr
    assert ("--continue: deprecated name; write '--resume'" in result.stderr) is is_old


def test_help_of_run_shows_the_new_name_only() -> None:
    shown = runner.invoke(app, ["run", "--help"]).stdout
    assert "--resume" in shown
    assert "--continue" not in shown


def test_run_refuses_to_deploy_again_what_is_not_kept() -> None:
    result = runner.invoke(app, ["run", "digits", "--redeploy", "3"])
    assert result.exit_code == 2
    assert "version 3 is not kept (kept: none)" in result.stderr


def test_run_in_airflow_refuses_a_stack_without_airflow(tmp_path: Path) -> None:
    Stack(root=str(tmp_path)).write(tmp_path / "slipway-home" / "stack.json")
    result = runner.invoke(app, ["run", "digits"])
    assert result.exit_code == 1
    assert "started without Airflow" in result.stderr


def test_labels_refuse_a_missing_file(tmp_path: Path) -> None:
    result = runner.invoke(app, ["labels", "add", "digits", str(tmp_path / "no.csv")])
    assert result.exit_code == 2
    assert "no.csv" in result.stderr


def test_up_refuses_half_of_tls(tmp_path: Path) -> None:
    certificate = tmp_path / "tls.crt"
    certificate.touch()
    result = runner.invoke(app, ["up", "--certificate", str(certificate)])
    assert result.exit_code == 2
    assert "TLS needs both" in result.stderr


def test_down_without_services_is_done_at_once() -> None:
    result = runner.invoke(app, ["down"])
    assert result.exit_code == 0
    assert "Everything is stopped" in result.stderr


def test_status_of_a_new_pipeline_says_that_nothing_is_in_service() -> None:
    result = runner.invoke(app, ["status", "digits"])
    assert result.exit_code == 0
    assert "nothing is in service" in result.stdout
    assert "services are not running, so no requests are answered" in result.stdout


def test_labels_that_cannot_be_announced_are_stored_all_the_same(tmp_path: Path) -> None:
    home = tmp_path / "slipway-home"
    home.mkdir()
    (home / "passwords.json").write_text('{"admin": "x"}')
    stack = Stack(
        root=str(tmp_path / "root"),
        airflow_url="http://127.0.0.1:9",  # refused on loopback
        airflow_user="admin",
        airflow_password_file=str(home / "passwords.json"),
    )
    stack.write(home / "stack.json")
    rows = tmp_path / "rows.csv"
    rows.write_text(f"image,label\n{' '.join(['1'] * 64)},3\n")

    result = runner.invoke(app, ["labels", "add", "digits", str(rows)])

    assert result.exit_code == 1
    assert "Rows: 1 new, 0 corrected" in result.stderr
    assert "stored, not announced: the next run reads them" in result.stderr
    assert "Airflow at http://127.0.0.1:9: no answer" in result.stderr
    assert len(list((tmp_path / "root" / "digits" / "labels" / "deltas").glob("*.csv"))) == 1
