"""Which checkpoint the verdicts recommend."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.quality.verdicts import EarlyStop, best_step, read_verdicts, stop_reason
from contract.layout import RunLayout
from contract.records.evaluation import Metric, Verdict
from contract.schema.pipeline import PipelineConfig


def config(
    metric: str, patience: int | None = None, min_improvement: float = 0.0
) -> PipelineConfig:
    stop = {"patience": patience, "min_improvement": min_improvement}
    return PipelineConfig.model_validate_json(
        '{"name": "n", "features": {"x": {"dtype": "float32"}}, '
        '"heads": {"kind": {"task": "binary_classification", "classes": ["a", "b"]}}, '
        f'"bless": {{"metric": "{metric}"}}, "evaluate": {{"early_stop": {json.dumps(stop)}}}, '
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


# --- early stop ---------------------------------------------------------------------------------


def verdicts(*values: float) -> list[Verdict]:
    return [verdict(10 * (n + 1), auc=value) for n, value in enumerate(values)]


def test_training_stops_after_as_many_checkpoints_without_a_better_one():
    patient = config("auc", patience=2)
    assert stop_reason(patient, verdicts(0.7, 0.8, 0.7)) == ""
    assert stop_reason(patient, verdicts(0.7, 0.8, 0.7, 0.8)) == (
        "2 checkpoints in a row were not better than that of step 20 (auc 0.8; "
        "evaluate.early_stop.patience is 2)"
    )
    assert stop_reason(config("auc"), verdicts(0.7, 0.6, 0.5, 0.4, 0.3)) == ""


def test_an_improvement_below_the_least_is_none():
    assert stop_reason(config("auc", 2, 0.05), verdicts(0.7, 0.72, 0.74)) != ""
    assert (
        stop_reason(config("auc", 2, 0.03), verdicts(0.7, 0.72, 0.74)) == ""
    )  # 0.04 over the best


def test_lower_losses_are_better():
    falling = [verdict(10, log_loss=0.5), verdict(20, log_loss=0.4), verdict(30, log_loss=0.3)]
    assert stop_reason(config("log_loss", 1), falling) == ""
    assert "step 10 (log_loss 0.3" in stop_reason(
        config("log_loss", 1), [verdict(10, log_loss=0.3), verdict(20, log_loss=0.4)]
    )


def test_an_undefined_metric_is_no_improvement():
    assert stop_reason(config("auc", 2), [verdict(10, auc=0.5), verdict(20), verdict(30)]) != ""


def test_verdicts_after_one_that_is_still_to_come_do_not_count():
    late = [one for one in verdicts(0.8, 0.9, 0.7, 0.7) if one.step != 20]
    assert stop_reason(config("auc", 2), late, first_open=20) == ""
    assert stop_reason(config("auc", 2), late) != ""


def test_the_trainer_is_told_within_a_second(tmp_path: Path):
    run, now = RunLayout(tmp_path, "n", "r1"), [0.0]
    stop = EarlyStop(config("auc", patience=1), run, clock=lambda: now[0])
    assert stop.reason == ""
    for one in verdicts(0.8, 0.7):
        one.write(run.verdict(one.step))
    assert stop.reason == ""  # looked a moment ago
    now[0] = 1.1
    assert "not better than that of step 10" in stop.reason
