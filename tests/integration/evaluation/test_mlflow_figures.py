"""Verdicts in a real MLflow store: figures and pictures at their step, each once after a kill."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from tracked import experiment_in

from components.evaluate.mlflow_figures import Figures
from components.quality.verdicts import read_verdicts
from components.runs.tracking import open_tracker

RIGHT, WRONG = (9.0, 0.0), (-9.0, 0.0)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return experiment_in(tmp_path, "tiny")


def test_no_figure_or_picture_is_doubled_or_lost_though_evaluators_die(make_run, store):
    made = make_run(overrides={"evaluate.poll_seconds": 0.01})
    for step, weights in ((10, WRONG), (20, RIGHT), (30, RIGHT)):
        made.publish(step, weights)
    made.end()
    made.evaluate()  # judged, and killed before anything came to MLflow
    verdicts = read_verdicts(made.run)
    with open_tracker(store, made.run, "evaluate") as tracker:
        # an attempt that has logged one verdict and drawn it, and is killed before it knows
        figures = Figures(tracker, made.config.heads)
        figures.log(verdicts[0])
        figures.draw(verdicts[0])
    with open_tracker(store, made.run, "evaluate") as tracker:
        Figures(tracker, made.config.heads).log(verdicts[0])  # a late one of the dead attempt
        made.evaluate(tracker)
    client, run_id = MlflowClient(store), made.run.tracking("evaluate").read_text()
    for name in ("kind/accuracy", "colour_red/kind/accuracy", "lag_seconds"):
        history = client.get_metric_history(run_id, name)
        assert sorted(metric.step for metric in history) == [10, 20, 30], name
    values = {m.step: m.value for m in client.get_metric_history(run_id, "kind/accuracy")}
    assert values == {10: 0.0, 20: 1.0, 30: 1.0}
    pictures = [a.path for a in client.list_artifacts(run_id, "images") if a.path.endswith(".png")]
    assert sorted(int(path.split("step")[1].strip("+%").split("+")[0]) for path in pictures) == [
        10,
        20,
        30,
    ]
