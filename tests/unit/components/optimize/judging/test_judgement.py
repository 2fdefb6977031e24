"""What a lossy pass costs, against hand arithmetic."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from components.optimize.judging.judgement import Evaluation, Judge, Truth, agreement, spread

X = {"x": np.arange(4, dtype=np.float32)}
ONES = np.ones(4, np.float32)


def answering(name: str, values: Any) -> Any:
    return lambda x: {name: tf.gather(tf.constant(values, tf.float32), tf.cast(x, tf.int32))}


def test_accuracy_lost_is_counted_in_points() -> None:
    truth = Truth("scores", "multiclass_classification", "accuracy", np.array([0, 1, 0, 1]), ONES)
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    judge = Judge(answering("scores", [right, wrong, right, wrong]), Evaluation("s", X, (truth,)))
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
    judge = Judge(answering("value", [2.0] * 4), Evaluation("s", X, (truth,)))
    assert judge.judge(answering("value", [2.1] * 4)).cost_percent == pytest.approx(5.0, rel=1e-5)


def test_an_output_without_labels_must_agree_even_if_the_metric_is_kept() -> None:
    judge = Judge(answering("scores", [[1, 0], [0, 1]] * 2), Evaluation("s", X))
    assert judge.judge(answering("scores", [[1, 0]] * 4)).cost_percent == 50.0


def test_answers_that_are_not_numbers_cost_everything() -> None:
    judge = Judge(answering("value", [1.0, 5.0, 2.0, 3.0]), Evaluation("s", X))
    assert judge.judge(answering("value", [np.nan] * 4)).cost_percent == np.inf


def test_agreement_and_spread() -> None:
    probabilities = np.array([0.2, 0.7], np.float32)
    assert agreement(probabilities, np.array([0.4, 0.3], np.float32)) == 0.5
    values = np.array([0.0, 10.0], np.float32)
    assert agreement(values, values) is None
    assert spread(values, values + 1.0) == pytest.approx(0.2)  # standard deviation 5
