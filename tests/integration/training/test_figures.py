"""Figures in a real MLflow store: at their step, and each once whatever was retried."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tracked import experiment_in

from components.quality.verdicts import read_verdicts
from components.runs.tracking import Tracker, open_tracker


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return experiment_in(tmp_path_factory.mktemp("mlflow"), "tiny")


def history(store: str, made, step: str, name: str) -> list[tuple[int, float]]:
    run_id = made.run.tracking(step).read_text()
    found = MlflowClient(store).get_metric_history(run_id, name)
    return sorted((metric.step, metric.value) for metric in found)


def tracked(store: str, made, step: str) -> AbstractContextManager[Tracker]:
    return open_tracker(store, made.run, step)


def test_training_logs_each_interval_once_though_it_is_retried(make_run, store):
    made = make_run(overrides={"train.profile_steps": [25, 35]})  # the retry begins among them
    with tracked(store, made, "train") as tracker:
        made.train(tracker)
    first = history(store, made, "train", "loss")
    assert [step for step, _ in first] == [5, 10, 15, 20, 25, 30, 35, 40]
    made.run.checkpoint_manifest(40).unlink()  # as if killed just before it was written
    with tracked(store, made, "train") as tracker:
        assert made.train(tracker).resumed_from_step == 30
    assert history(store, made, "train", "loss") == first
    assert len(history(store, made, "train", "examples_per_second")) == 8
    timelines = "timeline/profile"
    run_id = made.run.tracking("train").read_text()
    assert len(MlflowClient(store).list_artifacts(run_id, timelines)) == 2


def test_verdicts_are_logged_at_their_step_with_bounds_and_slices(make_run, store, summary_steps):
    made = make_run()
    made.train()
    with tracked(store, made, "evaluate") as tracker:
        made.evaluate(tracker)
    verdicts = read_verdicts(made.run)
    by_step = {v.step: v.metrics["kind"]["accuracy"] for v in verdicts}
    for suffix, field in (("", "value"), ("_low", "low"), ("_high", "high")):
        assert dict(history(store, made, "evaluate", f"kind/accuracy{suffix}")) == pytest.approx(
            {step: getattr(metric, field) for step, metric in by_step.items()}
        )
    assert summary_steps(made.run.verdict_summaries)["kind/accuracy"] == {10, 20, 30, 40}
    assert len(history(store, made, "evaluate", "colour_red/kind/log_loss")) == 4
    assert all(lag >= 0 for _, lag in history(store, made, "evaluate", "lag_seconds"))


def test_no_figure_is_doubled_or_lost_by_a_retry(make_run, store):
    made = make_run(overrides={"train.steps": 20})
    made.train()
    with tracked(store, made, "evaluate") as tracker:
        made.evaluate(tracker)
    made.evaluate()  # a second, untracked: all are judged already
    longer = made.config.train.model_copy(update={"steps": 40})
    made.config = made.config.model_copy(update={"train": longer})
    made.train()
    made.evaluate()  # judged and killed before it could log, as far as MLflow knows
    assert len(history(store, made, "evaluate", "kind/accuracy")) == 2
    with tracked(store, made, "evaluate") as tracker:
        made.evaluate(tracker)
    found = history(store, made, "evaluate", "kind/accuracy")
    assert [step for step, _ in found] == [10, 20, 30, 40]


def test_without_mlflow_training_goes_on(make_run, caplog):
    made = make_run()
    nowhere = Path("/proc/no/such/folder")
    caplog.set_level(logging.WARNING, "slipway")  # whatever ran before in this process
    with tracked(f"sqlite:///{nowhere}/mlflow.db", made, "train") as tracker:
        assert made.train(tracker).last_step == 40
    assert "did not answer, this step is not tracked" in caplog.text
