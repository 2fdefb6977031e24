"""Which checkpoint the verdicts recommend."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.verdicts import best_step, read_verdicts
from contract.layout import RunLayout
from contract.records import Metric, Verdict
from contract.schema import PipelineConfig


def config(metric: str) -> PipelineConfig:
    return PipelineConfig.model_validate_json(
        '{"name": "n", "features": {"x": {"dtype": "float32"}}, '
        '"heads": {"kind": {"task": "binary_classification", "classes": ["a", "b"]}}, '
        f'"bless": {{"metric": "{metric}"}}, '
        '"ingest": {"source": {"kind": "sklearn", "dataset": "iris"}}}'
    )


def verdict(step: int, **values: float) -> Verdict:
    metrics = {name: Metric(value=v, low=v, high=v) for name, v in values.items()}
    return Verdict(
        step=step,
        examples=1,
        metrics={"kind": metrics},
        judged_at=datetime.now(UTC),
        lag_seconds=0.5,
    )


@pytest.mark.parametrize(("metric", "expected"), [("auc", 20), ("log_loss", 30)])
def test_best_is_highest_or_for_losses_lowest(metric, expected):
    verdicts = [
        verdict(10, auc=0.7, log_loss=0.6),
        verdict(20, auc=0.9, log_loss=0.5),
        verdict(30, auc=0.8, log_loss=0.4),
    ]
    assert best_step(config(metric), verdicts) == expected


def test_the_earlier_of_equals_wins():
    assert best_step(config("auc"), [verdict(20, auc=0.9), verdict(10, auc=0.9)]) == 10


def test_a_verdict_without_the_metric_does_not_count():
    assert best_step(config("auc"), [verdict(10), verdict(20, auc=0.1)]) == 20
    assert best_step(config("auc"), [verdict(10)]) is None


def test_verdicts_are_read_by_rising_step_and_a_broken_one_is_named(tmp_path: Path, caplog):
    run = RunLayout(tmp_path, "n", "r1")
    for step in (30, 5):
        verdict(step, auc=0.5).write(run.verdict(step))
    run.verdict(20).write_text("{")
    assert [one.step for one in read_verdicts(run)] == [5, 30]
    assert f"verdict skipped: {run.verdict(20)}" in caplog.text
