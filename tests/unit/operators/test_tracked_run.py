"""Ending an MLflow run from outside, where there is none to end."""

from pathlib import Path

import pytest

from contract.layout import RunLayout
from operators.tracked_run import end_tracked_run


def test_without_mlflow_or_a_run_nothing_is_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunLayout(tmp_path, "digits", "r1")
    end_tracked_run(run, "failed", "", {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    run.tracking("run").parent.mkdir(parents=True)
    run.tracking("run").write_text("abc")
    end_tracked_run(run, "failed", "", {})
    assert caplog.text == ""


def test_an_mlflow_that_is_away_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunLayout(tmp_path, "digits", "r1")
    run.tracking("run").parent.mkdir(parents=True)
    run.tracking("run").write_text("abc")
    end_tracked_run(run, "failed", "", {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert "MLflow's run was not ended: ConnectError" in caplog.text


def test_a_proxy_that_cannot_be_used_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    run = RunLayout(tmp_path, "digits", "r1")
    run.tracking("run").parent.mkdir(parents=True)
    run.tracking("run").write_text("abc")
    end_tracked_run(run, "failed", "", {"MLFLOW_TRACKING_URI": "http://mlflow.example"})
    assert "MLflow's run was not ended: ConfigError" in caplog.text
