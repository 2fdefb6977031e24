"""What a lossy pass costs, against hand arithmetic."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.optimize.judging.judgement import (
    AnswerJudge,
    Evaluation,
    Truth,
    agreement,
    lost_classes,
    spread,
)

X = {"x": np.arange(4, dtype=np.float32)}
ONES = np.ones(4, np.float32)


def answering(name: str, values: Any) -> Any:
    return lambda x: {name: tf.gather(tf.constant(values, tf.float32), tf.cast(x, tf.int32))}


def test_accuracy_lost_is_counted_in_points() -> None:
    truth = Truth("scores", "multiclass_classification", "accuracy", np.array([0, 1, 0, 1]), ONES)
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    judge = AnswerJudge(
        answering("scores", [right, wrong, right, wrong]), Evaluation("s", X, (truth,))
    )
    assert judge.metric == 1.0
    found = judge.judge(answering("scores", [wrong, wrong, right, wrong]))
    assert found.cost_percent == pytest.approx(25.0)  # one of four
    assert found.agreement_ratio == 0.75
    assert found.metric == 0.75
    assert found.metric_difference is not None
    # paired: differences -1, 0, 0, 0; standard error sqrt(3)/2/2 * sqrt(4/3)/... = 0.25
    assert found.metric_difference.low == pytest.approx(-0.25 - 1.96 * 0.25, abs=1e-3)


def test_an_unbounded_metric_costs_percent_of_its_value() -> None:
    truth = Truth("value", "regression", "rmse", np.zeros(4, np.float32), ONES)
    judge = AnswerJudge(answering("value", [2.0] * 4), Evaluation("s", X, (truth,)))
    assert judge.judge(answering("value", [2.1] * 4)).cost_percent == pytest.approx(5.0, rel=1e-5)


def test_an_output_without_labels_must_agree_even_if_the_metric_is_kept() -> None:
    judge = AnswerJudge(answering("scores", [[1, 0], [0, 1]] * 2), Evaluation("s", X))
    assert judge.judge(answering("scores", [[1, 0]] * 4)).cost_percent == 50.0


def test_a_right_class_that_is_lost_costs_though_the_metric_is_kept() -> None:
    """Half of each probability ranks the rows alike: AUC stays 1, and two of four rows are lost.

    A third one changes its class, from the wrong one to the right one; it makes up for none.
    """
    truth = Truth("scores", "binary_classification", "auc", np.array([0, 0, 1, 1]), ONES)
    before = [[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.1, 0.9]]
    after = [[0.95, 0.05], [0.7, 0.3], [0.65, 0.35], [0.55, 0.45]]
    judge = AnswerJudge(answering("scores", before), Evaluation("s", X, (truth,)))
    found = judge.judge(answering("scores", after))
    assert (judge.metric, found.metric) == (1.0, 1.0)
    assert (found.cost_percent, found.agreement_ratio) == (50.0, 0.25)
    assert found.in_words.startswith("50.00 points (the share of rows that lose their right class;")


def test_a_row_counts_by_its_weight_and_a_wrong_class_for_another_costs_nothing() -> None:
    weights = np.array([1.0, 3.0, 4.0, 2.0], np.float32)
    truth = Truth(
        "scores", "multiclass_classification", "accuracy", np.array([0, 1, 2, 2]), weights
    )
    first, second, third = np.eye(3)
    expected, found = (
        np.array([first, second, first, third]),
        np.array([second, third, second, third]),
    )
    assert lost_classes(truth, expected, found) == pytest.approx(0.4)  # 1 and 3 of 10


def test_classes_without_labels_cost_wherever_they_change() -> None:
    judge = AnswerJudge(answering("scores", [[0.9, 0.1]] * 4), Evaluation("s", X))
    found = judge.judge(answering("scores", [[0.9, 0.1]] * 3 + [[0.1, 0.9]]))
    assert found.in_words == "25.00 points (the share of rows whose class changes)"


def test_differences_reach_as_far_as_the_budget_lets_them_grow() -> None:
    """Values 0.006 of their standard deviation apart may grow by 1 / 0.6 within 1 %."""
    judge = AnswerJudge(answering("value", [1.0, 3.0, 1.0, 3.0]), Evaluation("s", X))
    found = {"value": np.array([1.006, 3.006, 1.006, 3.006])}
    assert 1 / 0.6 - 1 / 64 <= judge.reach(found, 1.0, 2.0) <= 1 / 0.6
    assert judge.reach(found, 1.2, 2.0) == 2.0
    assert judge.reach(found, 0.5, 2.0) == 1.0  # it costs more already


def test_differences_reach_no_further_than_to_the_next_class() -> None:
    """Its first row is 0.1 from another class, and moves by 0.07: it changes at 1 / 0.7."""
    before = [[0.6, 0.4], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8]]
    truth = Truth("scores", "binary_classification", "auc", np.array([0, 0, 1, 1]), ONES)
    judge = AnswerJudge(answering("scores", before), Evaluation("s", X, (truth,)))
    found = {"scores": np.array([[0.53, 0.47], *before[1:]])}
    assert 1 / 0.7 - 1 / 64 <= judge.reach(found, 10.0, 2.0) <= 1 / 0.7
    assert judge.reach(found, 25.0, 2.0) == 2.0  # one of four rows may change


def test_answers_that_are_not_numbers_cost_everything() -> None:
    judge = AnswerJudge(answering("value", [1.0, 5.0, 2.0, 3.0]), Evaluation("s", X))
    assert judge.judge(answering("value", [np.nan] * 4)).cost_percent == np.inf


def test_agreement_and_spread() -> None:
    probabilities = np.array([0.2, 0.7], np.float32)
    assert agreement(probabilities, np.array([0.4, 0.3], np.float32)) == 0.5
    values = np.array([0.0, 10.0], np.float32)
    assert agreement(values, values) is None
    assert spread(values, values + 1.0) == pytest.approx(0.2)  # standard deviation 5
