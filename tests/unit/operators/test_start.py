import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import yaml
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from contract.layout import RunLayout
from contract.loader import load_frozen
from operators.component import PipelineRef
from operators.start import StartOperator

CONFIG = {
    "name": "shoes",
    "features": {"size": {"dtype": "float32"}},
    "heads": {"label": {"task": "binary_classification", "classes": ["a", "b"]}},
    "ingest": {"source": {"kind": "sklearn", "dataset": "iris"}},
}
STEPS = ("ingest", "validate", "bless", "optimize", "package", "canary", "approve", "promote")


class Ground:
    """A pipeline folder, and the context of a run as Airflow gives it."""

    def __init__(self, folder: Path) -> None:
        self.pipeline = PipelineRef("shoes", str(folder / "root"))
        self.folder = folder / "pipelines" / "shoes"
        self.folder.mkdir(parents=True)
        (self.folder / "pipeline.yaml").write_text(yaml.safe_dump(CONFIG))

    def start(self, run_id: str, run_type: str = "manual", **conf: Any) -> list[str]:
        """Run the task and return the tasks that it skips."""
        tasks = [SimpleNamespace(task_id=step) for step in STEPS]
        context = {
            "run_id": run_id,
            "dag_run": SimpleNamespace(conf=conf, run_type=run_type),
            "task": SimpleNamespace(get_flat_relatives=lambda **_: tasks),
            "ti": SimpleNamespace(map_index=-1, xcom_push=lambda **_: None),
        }
        operator = Skipping(task_id="start", pipeline=self.pipeline)
        try:
            operator.execute(context)
        except DownstreamTasksSkipped as skipping:
            return list(skipping.tasks)
        return []

    def run(self, run_id: str) -> RunLayout:
        return self.pipeline.run(run_id)

    def judge(self, run_id: str) -> None:
        self.run(run_id).result("bless").parent.mkdir(parents=True)
        self.run(run_id).result("bless").touch()


class Skipping(StartOperator):
    """Takes stand-ins for Airflow's task objects, of which only the id matters."""

    def skip(self, ti: Any, tasks: Any) -> None:
        del ti
        raise DownstreamTasksSkipped(tasks=[task.task_id for task in tasks])


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    ground = Ground(tmp_path)
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(ground.folder.parent))
    return ground


def test_the_run_is_frozen_with_its_overrides(ground: Ground) -> None:
    assert ground.start("r", overrides={"train.steps": 3}, learning_rate=0.5) == []
    config = load_frozen(ground.run("r"))
    assert (config.train.steps, config.train.learning_rate) == (3, 0.5)


def test_a_wrong_override_fails_for_good_and_leaves_nothing(ground: Ground) -> None:
    with pytest.raises(AirflowFailException, match=r"train\.stepz: unknown key; did you mean"):
        ground.start("r", overrides={"train.stepz": 3})
    assert not ground.run("r").path.exists()


def test_a_pipeline_that_is_gone_fails_for_good(ground: Ground) -> None:
    shutil.rmtree(ground.folder)
    with pytest.raises(AirflowFailException, match="pipeline 'shoes': not found"):
        ground.start("r")


def test_a_scheduled_run_without_news_skips_everything_and_leaves_nothing(ground: Ground) -> None:
    assert ground.start("first", "scheduled") == []
    ground.judge("first")
    with structlog.testing.capture_logs() as logged:
        assert ground.start("second", "scheduled") == list(STEPS)
    assert "Nothing has changed since run first" in [line["event"] for line in logged]
    assert not ground.run("second").path.exists()


def test_a_scheduled_run_with_news_runs(ground: Ground) -> None:
    ground.start("first", "scheduled")
    ground.judge("first")
    changed = {**CONFIG, "train": {"steps": 9}}
    (ground.folder / "pipeline.yaml").write_text(yaml.safe_dump(changed))
    assert ground.start("second", "scheduled") == []


def test_a_run_that_was_never_judged_is_no_reason_to_skip(ground: Ground) -> None:
    ground.start("first", "scheduled")
    assert ground.start("second", "scheduled") == []


@pytest.mark.parametrize(
    ("run_type", "conf"),
    [("manual", {}), ("asset_triggered", {}), ("backfill", {"force": True})],
)
def test_a_run_that_was_asked_for_is_never_skipped(
    run_type: str, conf: dict[str, Any], ground: Ground
) -> None:
    ground.start("first", "scheduled")
    ground.judge("first")
    assert ground.start("second", run_type, **conf) == []


def test_a_cleared_start_keeps_what_the_run_has(ground: Ground) -> None:
    for run_id in ("first", "second"):
        ground.start(run_id, "manual")
        ground.judge(run_id)
    (ground.folder / "pipeline.yaml").write_text(yaml.safe_dump({**CONFIG, "train": {"steps": 9}}))
    assert ground.start("first", "scheduled") == []
    assert ground.run("first").result("bless").exists()
    assert load_frozen(ground.run("first")).train.steps == 1000


def test_deploying_a_version_again_skips_what_would_make_one(ground: Ground) -> None:
    manifest = ground.run("r").of_pipeline.version(2) / "package.json"
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    skipped = ground.start("r", redeploy_version=2, overrides={"serve.fault_ratio": 0.1})
    assert skipped == ["ingest", "validate", "bless", "optimize"]
    assert load_frozen(ground.run("r")).serve.fault_ratio == 0.1


def test_a_version_that_is_not_kept_fails_for_good(ground: Ground) -> None:
    with pytest.raises(AirflowFailException, match=r"version 7 is not kept \(kept: none\)"):
        ground.start("r", redeploy_version=7)


def test_old_logs_go_when_a_run_starts(ground, tmp_path):
    old = tmp_path / "slipway-home" / "airflow" / "logs" / "dag_id=shoes" / "run_id=old"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    ground.start("new")
    assert not old.exists()
