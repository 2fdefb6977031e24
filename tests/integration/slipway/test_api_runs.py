"""Runs of the Python API that do not end well, by real components, without services."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import warm
from sklearn.datasets import load_diabetes

import slipway
from contract.errors import UserError
from contract.places import CODE_FOLDER

ONE_CHECKPOINT_EACH = {"train.steps": 6000, "train.checkpoint_every_steps": 200}


@pytest.fixture
def diabetes(
    tmp_path: Path, warm_parent: Path, monkeypatch: pytest.MonkeyPatch
) -> slipway.Pipeline:
    """A regression on real data: 442 patients, ten measurements."""
    warm.lend(warm_parent, Path(os.environ["SLIPWAY_HOME"]))
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(tmp_path / "pipelines"))
    frame: pd.DataFrame = load_diabetes(as_frame=True, scaled=False).frame
    return slipway.connect().new("diabetes", frame, label="target")


def trained(run: slipway.Run) -> list[Path]:
    return sorted(run._layout.checkpoints.glob("*/manifest.json"))


def wait_for_a_checkpoint(run: slipway.Run) -> None:
    deadline = time.monotonic() + 180
    while not trained(run):
        assert time.monotonic() < deadline
        assert run.outcome == "running"
        time.sleep(0.1)


def test_a_cancelled_run_is_resumed_from_its_last_checkpoint(
    diabetes: slipway.Pipeline, capfd: pytest.CaptureFixture[str]
) -> None:
    run = diabetes.run(local=True, set={**ONE_CHECKPOINT_EACH, "bless.thresholds": {"r2": 1.5}})
    wait_for_a_checkpoint(run)
    with pytest.raises(UserError, match="it is running"):
        run.resume()
    run.cancel()
    assert run.outcome == "ended by a person"
    done = len(trained(run))
    assert run.wait().outcome == "ended by a person"
    assert run.resume().follow().outcome == "not blessed"
    assert len(trained(run)) >= done
    assert run._layout.result("train").exists()
    assert run.metrics.loc[("target", "r2"), "value"] > 0.2  # linear regression reaches 0.5
    assert capfd.readouterr() == ("", "")


def test_wrong_data_ends_a_run_with_the_step_and_its_words(
    diabetes: slipway.Pipeline, tmp_path: Path
) -> None:
    (table,) = (diabetes.folder / "data").iterdir()
    table.write_text(table.read_text().replace("\n", "\nx", 20))
    run = diabetes.run(local=True)
    with pytest.raises(UserError, match="failed in 'ingest'(?s:.*)not an? (float32|int64)"):
        run.follow()
    assert slipway.connect().pipeline("diabetes").runs()[0].outcome == "failed"
    with pytest.raises(UserError, match="failed in 'ingest'"):  # from its records alone
        diabetes.runs()[0].wait()


def test_a_run_ends_with_the_process_that_runs_it(diabetes: slipway.Pipeline) -> None:
    """As with a kernel that is shut down or killed."""
    code = (
        "import slipway, time; p = slipway.connect().pipeline('diabetes'); "
        f"run = p.run(local=True, set={ONE_CHECKPOINT_EACH!r}); "
        "print(run.run_id, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=CODE_FOLDER, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    run = slipway.Run("diabetes", process.stdout.readline().strip())
    deadline = time.monotonic() + 180
    while not run._layout.path.is_dir() or not trained(run):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(UserError, match="it runs in another process"):
        run.wait()
    process.kill()
    process.wait()
    while run.outcome == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # The training was told to end and left a record of that, or was killed before it could.
    assert run.outcome in {"failed", "interrupted"}
