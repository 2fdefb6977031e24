"""Runs that do not end well, by real components without Airflow, and what `check` refuses."""

import getpass
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import warm
from typer.testing import CliRunner

from cli.main import app
from contract.places import CODE_FOLDER
from contract.records.record import Result
from contract.records.training import TrainRecord

runner = CliRunner()


def home() -> Path:
    """Return the state folder of this test."""
    return Path(os.environ["SLIPWAY_HOME"])


@pytest.fixture
def wine(tmp_path: Path, warm_parent: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    parent = tmp_path / "pipelines"
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(parent))
    warm.lend(warm_parent, home())
    assert runner.invoke(app, ["new", "wine", "--into", str(parent)]).exit_code == 0
    return parent / "wine"


def run(*more: str) -> dict[str, object]:
    result = runner.invoke(app, ["run", "wine", "--local", "--json", *more])
    return {**json.loads(result.stdout), "left_with": result.exit_code, "said": result.stderr}


def state() -> tuple[str, list[str]]:
    """Return what `status` says of the latest run."""
    result = runner.invoke(app, ["status", "wine", "--json"])
    latest = json.loads(result.stdout)["runs"][0]
    return latest["outcome"], latest["reasons"]


def test_an_interrupted_run_goes_on_and_a_refused_model_ends_it_without_an_error(
    wine: Path,
) -> None:
    settings = [
        "train.steps=6000",
        "train.checkpoint_every_steps=200",
        "bless.thresholds={accuracy: 1.1}",
    ]
    words = ["run", "wine", "--local", *(word for one in settings for word in ("--set", one))]
    started = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *words],
        stderr=subprocess.PIPE,
        text=True,
        cwd=CODE_FOLDER,
        # what a shell starts in the background ignores it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    runs = home() / "artifacts/wine/runs"
    deadline = time.monotonic() + 120
    while not list(runs.glob("local-*/train/checkpoints/*/manifest.json")):
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.05)
    assert state() == ("running", ["'train' is running"])
    started.send_signal(signal.SIGINT)
    said = started.communicate()[1]
    (interrupted,) = runs.iterdir()
    assert f"slipway run wine --local --resume {interrupted.name}" in said
    assert not (interrupted / "train/result.json").exists()
    assert state() == ("ended by a person", [f"{getpass.getuser()} interrupted it"])
    ingested = (interrupted / "ingest/result.json").read_bytes()

    ended = run("--resume", interrupted.name)
    assert (ended["left_with"], ended["outcome"]) == (0, "not blessed")
    assert ended["run_id"] == interrupted.name
    assert ended["version"] is None
    assert re.search(r"ingest: done in .* s: done before, not again; ", str(ended["said"]))
    assert "optimize: skipped" in str(ended["said"])
    assert (interrupted / "ingest/result.json").read_bytes() == ingested
    trained = Result.read(interrupted / "train/result.json").detail_as(TrainRecord)
    assert trained.resumed_from_step >= 200
    assert trained.last_step == 6000


def test_a_run_that_cannot_be_resumed_says_why(wine: Path) -> None:
    result = runner.invoke(app, ["run", "wine", "--local", "--resume", "local-gone"])
    assert result.exit_code == 2
    assert "wine: local run local-gone not found (latest: none)" in result.stderr
    result = runner.invoke(app, ["run", "wine", "--resume", "local-gone"])
    assert result.exit_code == 2
    assert "--resume: expected --local, and neither --set nor --redeploy" in result.stderr


def test_a_failing_model_keeps_its_exit_code_and_shows_its_log(wine: Path) -> None:
    model = wine / "model.py"
    model.write_text(model.read_text().replace("Dense(3)", "Dense(4)"))
    ended = run("--set", "train.steps=1")
    assert (ended["left_with"], ended["outcome"]) == (2, "failed")
    assert ended["failed_step"] == "transform"  # it looks at the model before any training
    assert "build_model" in str(ended["log"])
    assert "Not tracked in MLflow: no services are running" in str(ended["said"])
    assert "--resume" not in str(ended["said"])  # the same code would fail again


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
