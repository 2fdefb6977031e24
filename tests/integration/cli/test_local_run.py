"""Runs that do not end well, by real components without Airflow, and what `check` refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app

runner = CliRunner()


@pytest.fixture
def wine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    parent = tmp_path / "pipelines"
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(parent))
    assert runner.invoke(app, ["new", "wine", "--into", str(parent)]).exit_code == 0
    return parent / "wine"


def run(*more: str) -> dict[str, object]:
    result = runner.invoke(app, ["run", "wine", "--local", "--json", *more])
    return {**json.loads(result.stdout), "left_with": result.exit_code, "said": result.stderr}


def test_a_refused_model_ends_the_run_without_an_error(wine: Path) -> None:
    ended = run("--set", "train.steps=1", "--set", "bless.thresholds={accuracy: 1.0}")
    assert (ended["left_with"], ended["outcome"]) == (0, "not blessed")
    assert ended["version"] is None
    assert "optimize: skipped" in str(ended["said"])


def test_a_failing_model_keeps_its_exit_code_and_shows_its_log(wine: Path) -> None:
    model = wine / "model.py"
    model.write_text(model.read_text().replace("Dense(3)", "Dense(4)"))
    ended = run("--set", "train.steps=1")
    assert (ended["left_with"], ended["outcome"]) == (2, "failed")
    assert ended["failed_step"] in ("train", "evaluate")  # both build the model
    assert "build_model" in str(ended["log"])


def test_check_names_a_function_that_is_missing(wine: Path) -> None:
    model = wine / "model.py"
    model.write_text(model.read_text().replace("def build_model", "def build_modle"))
    result = runner.invoke(app, ["check", "wine"])
    assert result.exit_code == 2
    assert "did you mean 'build_modle'" in result.stdout


def test_check_names_the_line_that_raises(wine: Path) -> None:
    (wine / "preprocessing.py").write_text("import nowhere_to_be_found\n")
    result = runner.invoke(app, ["check", "wine"])
    assert result.exit_code == 2
    assert "preprocessing.py:1: No module named 'nowhere_to_be_found'" in result.stdout
