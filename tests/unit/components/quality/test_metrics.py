"""Figures against scikit-learn and SciPy, against hand arithmetic, and at their edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from components.quality.metrics import (
    Answers,
    check_metrics,
    estimate_metric,
    is_lower_better,
    measure,
    measure_own,
    metric_names,
    paired_difference,
    weighted_mean,
    wilson_interval,
)
from contract.errors import ConfigError
from contract.schema.pipeline import PipelineConfig
from contract.schema.training import BlessConfig, EarlyStopConfig, EvaluateConfig

BINARY, MULTICLASS, REGRESSION = (
    "binary_classification",
    "multiclass_classification",
    "regression",
)


def binary(seed: int = 1, examples: int = 500, has_weights: bool = True) -> Answers:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, examples)
    chance = 1 / (1 + np.exp(-(random.normal(size=examples) + labels)))
    chance = np.round(chance, 2)  # ties
    weights = random.uniform(0.5, 2, examples) if has_weights else np.ones(examples)
    return Answers(labels, np.stack([1 - chance, chance], axis=1), weights)


def multiclass(seed: int = 2, examples: int = 400) -> Answers:
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.ones(4), examples)
    return Answers(random.integers(0, 4, examples), scores, random.uniform(0.5, 2, examples))


def regression(seed: int = 3, examples: int = 400) -> Answers:
    random = np.random.default_rng(seed)
    labels = random.normal(5, 2, examples)
    return Answers(labels, labels + random.normal(0, 1, examples), random.uniform(1, 2, examples))


# --- values -------------------------------------------------------------------------------------


def test_binary_metrics_agree_with_sklearn():
    answers = binary()
    found = measure(BINARY, answers, 0.95)
    chance, called = answers.scores[:, 1], answers.scores[:, 1] > 0.5
    expected = {
        "accuracy": sklearn_metrics.accuracy_score,
        "precision": sklearn_metrics.precision_score,
        "recall": sklearn_metrics.recall_score,
        "auc": sklearn_metrics.roc_auc_score,
        "log_loss": sklearn_metrics.log_loss,
        "brier": sklearn_metrics.brier_score_loss,
    }
    assert found.keys() == expected.keys()
    for name, function in expected.items():
        said = called if name in ("accuracy", "precision", "recall") else chance
        value = function(answers.labels, said, sample_weight=answers.weights)
        assert found[name].value == pytest.approx(value, rel=1e-9), name


def test_multiclass_metrics_agree_with_sklearn():
    answers = multiclass()
    found = measure(MULTICLASS, answers, 0.95)
    said = answers.scores.argmax(axis=1)
    weights = answers.weights
    assert found["accuracy"].value == pytest.approx(
        sklearn_metrics.accuracy_score(answers.labels, said, sample_weight=weights)
    )
    assert found["log_loss"].value == pytest.approx(
        sklearn_metrics.log_loss(answers.labels, answers.scores, sample_weight=weights)
    )


def test_brier_of_classes_by_hand():
    answers = Answers(np.array([0, 2]), np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), np.ones(2))
    # ((0.5-1)² + 0.5² + 0 + 0 + 0 + 0) / 2
    assert measure(MULTICLASS, answers, 0.95)["brier"].value == pytest.approx(0.25)


def test_regression_metrics_agree_with_sklearn():
    answers = regression()
    found = measure(REGRESSION, answers, 0.95)
    expected = {
        "mse": sklearn_metrics.mean_squared_error,
        "rmse": sklearn_metrics.root_mean_squared_error,
        "mae": sklearn_metrics.mean_absolute_error,
        "r2": sklearn_metrics.r2_score,
    }
    assert found.keys() == expected.keys()
    for name, function in expected.items():
        value = function(answers.labels, answers.scores, sample_weight=answers.weights)
        assert found[name].value == pytest.approx(value, rel=1e-9), name


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=30).filter(
        lambda rows: len({label for label, _ in rows}) == 2
    )
)
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    labels = np.array([label for label, _ in rows])
    score = np.array([s / 5 for _, s in rows])
    answers = Answers(labels, np.stack([1 - score, score], axis=1), np.ones(len(rows)))
    pairs = [
        1.0 if mine > other else 0.5 if mine == other else 0.0
        for mine in score[labels == 1]
        for other in score[labels == 0]
    ]
    assert estimate_metric(BINARY, "auc", answers).value == pytest.approx(np.mean(pairs))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.sampled_from(["accuracy", "auc", "log_loss", "brier"]))
def test_a_weight_of_n_is_n_examples(times, name):
    answers = binary(seed=times, examples=40, has_weights=False)
    weights = np.where(np.arange(40) % 3 == 0, float(times), 1.0)
    rows = np.repeat(np.arange(40), weights.astype(int))
    weighted = Answers(answers.labels, answers.scores, weights)
    repeated = answers.at(rows)
    assert estimate_metric(BINARY, name, weighted).value == pytest.approx(
        estimate_metric(BINARY, name, repeated).value
    )


# --- intervals ----------------------------------------------------------------------------------


def test_wilson_agrees_with_scipy():
    low, high = wilson_interval(45 / 50, 50, 0.95)
    expected = stats.binomtest(45, 50).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_accuracy_of_all_right_still_has_a_width():
    answers = Answers(np.zeros(20, int), np.tile([0.9, 0.1], (20, 1)), np.ones(20))
    accuracy = measure(BINARY, answers, 0.95)["accuracy"]
    assert accuracy.value == accuracy.high == 1.0
    assert accuracy.low == pytest.approx(20 / (20 + 1.959964**2))  # Wilson's, at a share of 1


def test_log_loss_interval_is_the_textbook_interval_of_a_mean():
    answers = binary(has_weights=False)
    losses = -np.log(answers.scores[np.arange(500), answers.labels])
    reach = stats.norm.ppf(0.95) * losses.std(ddof=1) / math.sqrt(500)
    found = measure(BINARY, answers, 0.90)["log_loss"]
    assert (found.low, found.high) == pytest.approx((losses.mean() - reach, losses.mean() + reach))


def test_auc_variance_is_delongs():
    answers = binary(has_weights=False)
    score, labels = answers.scores[:, 1], answers.labels
    mine, others = score[labels == 1], score[labels == 0]
    kernel = (mine[:, None] > others) + 0.5 * (mine[:, None] == others)  # DeLong's psi, all pairs
    variance = kernel.mean(1).var(ddof=1) / len(mine) + kernel.mean(0).var(ddof=1) / len(others)
    assert estimate_metric(BINARY, "auc", answers).standard_error == pytest.approx(
        math.sqrt(variance)
    )


@pytest.mark.parametrize(
    ("task", "name", "make"),
    [
        (BINARY, "auc", binary),
        (BINARY, "precision", binary),
        (BINARY, "log_loss", binary),
        (REGRESSION, "rmse", regression),
        (REGRESSION, "r2", regression),
    ],
)
def test_standard_error_agrees_with_the_bootstrap(task, name, make):
    answers = make(seed=11)
    random = np.random.default_rng(5)
    size = len(answers.labels)
    again = [
        estimate_metric(task, name, answers.at(random.integers(0, size, size))).value
        for _ in range(600)
    ]
    # 600 resamples know a standard deviation to about 3 %; 4 of those
    assert estimate_metric(task, name, answers).standard_error == pytest.approx(
        np.std(again), rel=0.12
    )


def test_paired_difference_is_the_paired_z_interval():
    ours, theirs = binary(seed=1, has_weights=False), binary(seed=1, has_weights=False)
    shifted = np.clip(theirs.scores[:, 1] * 0.8 + 0.1, 0, 1)
    theirs = Answers(ours.labels, np.stack([1 - shifted, shifted], axis=1), ours.weights)
    gaps = np.square(ours.scores[:, 1] - ours.labels) - np.square(shifted - ours.labels)
    found = paired_difference(BINARY, "brier", ours, theirs, 0.95)
    reach = stats.norm.ppf(0.975) * gaps.std(ddof=1) / math.sqrt(len(gaps))
    assert found.value == pytest.approx(gaps.mean())
    assert (found.low, found.high) == pytest.approx((gaps.mean() - reach, gaps.mean() + reach))


def test_a_model_differs_from_itself_by_nothing():
    found = paired_difference(BINARY, "auc", binary(), binary(), 0.95)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


# --- edges --------------------------------------------------------------------------------------


def test_auc_of_one_class_is_left_out():
    answers = Answers(np.ones(9, int), np.tile([0.2, 0.8], (9, 1)), np.ones(9))
    assert "auc" not in measure(BINARY, answers, 0.95)
    assert measure(BINARY, answers, 0.95)["recall"].value == 1.0


def test_precision_without_a_positive_call_is_left_out():
    answers = Answers(np.array([0, 1]), np.tile([0.9, 0.1], (2, 1)), np.ones(2))
    assert "precision" not in measure(BINARY, answers, 0.95)


def test_r2_of_a_constant_is_left_out():
    answers = Answers(np.full(5, 3.0), np.arange(5.0), np.ones(5))
    assert set(measure(REGRESSION, answers, 0.95)) == {"mse", "rmse", "mae"}


def test_nan_scores_count_as_wrong_and_leave_the_rest_out():
    scores = np.array([[0.9, 0.1], [np.nan, np.nan]])
    found = measure(BINARY, Answers(np.array([0, 0]), scores, np.ones(2)), 0.95)
    assert found["accuracy"].value == 0.5
    assert found.keys().isdisjoint({"log_loss", "auc", "brier"})


def test_a_sure_mistake_costs_a_finite_log_loss():
    answers = Answers(np.array([1]), np.array([[1.0, 0.0]]), np.ones(1))
    found = measure(BINARY, answers, 0.95)["log_loss"]
    assert found.value == pytest.approx(-math.log(1e-7))


def test_no_examples_are_a_value_error():
    with pytest.raises(ValueError, match="accuracy: no examples"):
        measure(BINARY, Answers(np.zeros(0, int), np.zeros((0, 2)), np.zeros(0)), 0.95)


def test_weighted_mean_of_one_example_has_no_spread():
    assert weighted_mean(np.array([3.0]), np.array([2.0])).standard_error == 0.0


# --- names --------------------------------------------------------------------------------------


def config() -> PipelineConfig:
    return PipelineConfig.model_validate_json(
        '{"name": "n", "features": {"x": {"dtype": "float32"}}, '
        '"heads": {"price": {"task": "regression"}}, '
        '"ingest": {"source": {"kind": "sklearn", "dataset": "iris"}}}'
    )


def test_metric_names_are_the_tasks_and_the_users():
    known = metric_names(config(), "price", {"price": {"pinball_loss": lambda *_: 0.0}})
    assert known == ("mse", "rmse", "mae", "r2", "pinball_loss")


def test_unknown_metrics_are_refused_all_at_once_with_the_nearest():
    named = {
        "bless": BlessConfig(metric="rsme", thresholds={"auc": 1.0}),
        "evaluate": EvaluateConfig(early_stop=EarlyStopConfig(metric="profits")),
    }
    with pytest.raises(ConfigError) as refused:
        check_metrics(config().model_copy(update=named), {"price": {"profit": lambda *_: 0.0}})
    problems = str(refused.value).splitlines()
    assert problems[0].startswith("bless.metric: unknown metric 'rsme'; did you mean 'rmse'?")
    assert problems[1].startswith("bless.thresholds: unknown metric 'auc'")
    assert "'profits'; did you mean 'profit'?" in problems[2]


def test_a_metric_of_the_user_is_known():
    own = config().model_copy(update={"bless": BlessConfig(metric="profit")})
    check_metrics(own, {"price": {"profit": lambda *_: 0.0}})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("auc", False), ("r2", False), ("mae", True), ("pinball_loss", True), ("my_error", True)],
)
def test_lower_is_better_by_name(name, expected):
    assert is_lower_better(name) is expected


def test_own_metric_has_a_bootstrap_interval_around_it():
    answers = binary(has_weights=False)

    def share_right(labels, scores, _weights):
        return float(np.mean(scores.argmax(axis=1) == labels))

    found = measure_own({"share_right": share_right}, answers, 0.95)["share_right"]
    wilson = measure(BINARY, answers, 0.95)["accuracy"]
    assert found.value == pytest.approx(wilson.value)
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=0.015)


def test_own_metric_that_is_nan_is_left_out():
    assert measure_own({"nothing": lambda *_: math.nan}, binary(), 0.95) == {}
