"""The paired comparison, against arithmetic by hand."""

import math

import numpy as np
import pytest

from components.bless.comparison import compare, compare_own
from components.metrics import Answers

MULTICLASS = "multiclass_classification"


def answers(labels: list[int], predicted: list[int]) -> Answers:
    """Return answers that put all probability on the predicted class of two."""
    return Answers(np.array(labels), np.eye(2)[predicted], np.ones(len(labels)))


def test_the_difference_is_paired_example_by_example() -> None:
    labels = [0] * 10
    candidate = answers(labels, [0] * 9 + [1])  # wrong on the last
    champion = answers(labels, [1, 1] + [0] * 8)  # wrong on the first two
    found = compare(MULTICLASS, "accuracy", (candidate, champion), confidence=0.95)
    # Differences: +1, +1, seven zeros, -1: mean 0.1, sample variance (3 - 10 * 0.01) / 9.
    error = math.sqrt(2.9 / 9 / 10)
    assert found.advantage == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1 - 1.6448536 * error, rel=1e-6)
    assert found.detectable == pytest.approx((1.6448536 + 0.8416212) * error, rel=1e-6)


def test_equal_models_are_not_inferior_at_no_margin() -> None:
    same = answers([0, 1, 1, 0], [0, 1, 0, 0])
    found = compare(MULTICLASS, "accuracy", (same, same), confidence=0.95)
    assert (found.advantage, found.low, found.detectable) == (0.0, 0.0, 0.0)
    assert found.is_not_inferior(0.0)


def test_errors_that_both_models_make_do_not_count() -> None:
    """Unpaired, two models with 50 % errors on 40 rows could not be told apart within 0.2."""
    labels = [0] * 40
    wrong_half = [1] * 20 + [0] * 20
    better_by_one = [1] * 19 + [0] * 21
    pair = (answers(labels, wrong_half), answers(labels, better_by_one))
    assert compare(MULTICLASS, "accuracy", pair, confidence=0.95).is_not_inferior(0.07)


def test_a_worse_model_is_inferior() -> None:
    labels = [0] * 100
    pair = (answers(labels, [1] * 10 + [0] * 90), answers(labels, [0] * 100))
    assert not compare(MULTICLASS, "accuracy", pair, confidence=0.95).is_not_inferior(0.05)


def test_lower_is_better_for_losses() -> None:
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    near = Answers(truth, truth + 0.1, np.ones(4))
    far = Answers(truth, truth + 1.0, np.ones(4))
    assert compare("regression", "mae", (near, far), confidence=0.9).advantage == pytest.approx(0.9)
    assert compare("regression", "mae", (far, near), confidence=0.9).advantage < 0


def test_a_candidate_that_answers_nan_is_inferior() -> None:
    truth = np.array([1.0, 2.0, 3.0])
    broken = Answers(truth, np.array([1.0, math.nan, 3.0]), np.ones(3))
    sound = Answers(truth, truth, np.ones(3))
    found = compare("regression", "mse", (broken, sound), confidence=0.9)
    assert not found.is_not_inferior(1e9)


def test_an_own_metric_gets_the_error_of_a_mean() -> None:
    """For a mean the bootstrap must agree with the formula, here within a tenth."""
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 400)
    candidate = answers(
        labels.tolist(), np.where(random.random(400) < 0.9, labels, 1 - labels).tolist()
    )
    champion = answers(
        labels.tolist(), np.where(random.random(400) < 0.8, labels, 1 - labels).tolist()
    )

    def share_right(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
        return float(np.average(scores.argmax(axis=1) == truth, weights=weights))

    own = compare_own("share_right", share_right, (candidate, champion), confidence=0.95)
    built_in = compare(MULTICLASS, "accuracy", (candidate, champion), confidence=0.95)
    assert own.advantage == pytest.approx(built_in.advantage)
    assert own.detectable == pytest.approx(built_in.detectable, rel=0.1)
