"""Decisions and their words."""

import math

import numpy as np

from components.bless.bless import warnings_of
from components.bless.comparison import Comparison
from components.bless.verdict import absent_classes, against_champion, against_thresholds
from components.quality.metrics import Answers
from contract.records.evaluation import Metric
from contract.schema.data import HeadConfig
from contract.schema.pipeline import PipelineConfig
from contract.schema.training import BlessConfig


def config(**bless: object) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "tiny",
            "features": {"x": {"dtype": "float32"}},
            "heads": {"y": {"task": "binary_classification", "classes": ("a", "b")}},
            "ingest": {"source": {"kind": "csv", "files": ("data.csv",)}},
            "bless": bless,
        }
    )


def test_a_threshold_that_is_met_says_the_figure_and_the_limit() -> None:
    metrics = {"accuracy": Metric(value=0.95, low=0.93, high=0.97)}
    (finding,) = against_thresholds(metrics, BlessConfig(thresholds={"accuracy": 0.9}))
    assert finding.has_passed
    assert finding.reason == ("accuracy 0.95 (0.93 to 0.97) on the test split, required ≥ 0.9: met")


def test_a_loss_above_its_threshold_fails() -> None:
    metrics = {"log_loss": Metric(value=0.5, low=0.4, high=0.6)}
    (finding,) = against_thresholds(metrics, BlessConfig(thresholds={"log_loss": 0.3}))
    assert not finding.has_passed
    assert "required ≤ 0.3: not met" in finding.reason


def test_a_metric_that_is_undefined_on_the_test_split_fails_its_threshold() -> None:
    (finding,) = against_thresholds({}, BlessConfig(thresholds={"auc": 0.8}))
    assert not finding.has_passed
    assert "auc is undefined on the test split" in finding.reason


def test_non_inferiority_names_champion_margin_and_what_could_have_been_seen() -> None:
    comparison = Comparison(advantage=0.004, low=-0.006, detectable=0.015)
    finding = against_champion(comparison, 3, 180, BlessConfig(margin=0.01))
    assert finding.has_passed
    assert finding.reason == (
        "accuracy is 0.004 better than version 3's on the same 180 test rows, with 95% confidence "
        "at worst 0.006 worse; margin 0.01: not inferior; the smallest difference that would have "
        "been seen is 0.015 (80% power)"
    )


def test_too_few_rows_are_told_apart_from_a_worse_model() -> None:
    settings = BlessConfig(margin=0.01)
    unsure = against_champion(Comparison(0.0, -0.05, 0.1), 1, 20, settings)
    worse = against_champion(Comparison(-0.2, -0.25, 0.1), 1, 20, settings)
    assert not unsure.has_passed
    # 20 rows see 0.1, so the margin of 0.01, a tenth of it, takes a hundred times as many
    assert "not excluded (some 2,000 test rows would tell)" in unsure.reason
    assert not worse.has_passed
    assert "0.2 worse than" in worse.reason
    assert ": inferior;" in worse.reason


def test_what_could_not_have_been_seen_is_said() -> None:
    finding = against_champion(Comparison(0.0, 0.0, math.nan), 1, 20, BlessConfig(metric="auc"))
    assert finding.has_passed
    assert "what difference would have been seen is unknown" in finding.reason


def test_answers_of_outputs_that_were_probabilities_are_a_warning() -> None:
    probability = np.linspace(0.0, 1.0, 50)  # a model's sigmoid, where a logit is expected
    score = 1 / (1 + np.exp(-probability))
    labels = np.arange(50) % 2
    answers = Answers(labels, np.stack([1 - score, score], axis=1), np.ones(50))
    (warning,) = warnings_of({"y": answers}, config())
    assert warning.startswith("warning: head 'y': the model's outputs look like probabilities")
    logits = np.stack([1 - probability, probability], axis=1)[1:-1]
    assert warnings_of({"y": Answers(labels[:48], logits, np.ones(48))}, config()) == []


def test_a_class_without_any_test_row_is_a_warning() -> None:
    scores = np.tile([0.25, 0.75], (5, 1))
    (warning,) = warnings_of({"y": Answers(np.ones(5), scores, np.ones(5))}, config())
    assert warning == (
        "warning: head 'y': no test row is of class 'a': the figures say nothing about it. Check "
        "the labels, or use a larger test split"
    )
    head = HeadConfig(task="multiclass_classification", classes=tuple("abcdefgh"))
    assert "'a', 'c', 'd', 'e', 'f' and 2 more:" in absent_classes("k", np.ones(3), head)
    assert absent_classes("v", np.array([1.5]), HeadConfig(task="regression")) == ""
