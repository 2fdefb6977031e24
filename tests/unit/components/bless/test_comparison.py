"""The paired comparison, against arithmetic by hand."""

import math

import numpy as np
import pytest
from scipy import optimize

from components.bless.comparison import compare, compare_own, lower_bound
from components.quality.metrics import Answers

MULTICLASS = "multiclass_classification"


def answers(labels: list[int], predicted: list[int]) -> Answers:
    """Return answers that put all probability on the predicted class of two."""
    return Answers(np.array(labels), np.eye(2)[predicted], np.ones(len(labels)))


def test_the_difference_is_paired_example_by_example() -> None:
    labels = [0] * 10
    candidate = answers(labels, [0] * 9 + [1])  # wrong on the last
    champion = answers(labels, [1, 1] + [0] * 8)  # wrong on the first two
    found = compare(MULTICLASS, "accuracy", (candidate, champion), confidence=0.95)
    # Two gained, one lost: the variance of the sum is 3 - 1²/10.
    assert found.advantage == pytest.approx(0.1)
    assert found.low == pytest.approx(score_bound(2, 1, 10, 1.6448536), abs=1e-6)
    quantiles = 1.6448536 + 0.8416212
    assert found.detectable == pytest.approx(
        max(quantiles * math.sqrt(2.9) / 10, quantiles**2 / 10)
    )


def score_bound(gains: int, losses: int, rows: int, z: float) -> float:
    """Find the bound the slow way: for each difference the likeliest share, by search."""

    def statistic(difference: float) -> float:
        def unlikely(share: float) -> float:
            gained = share + difference
            rest = 1 - share - gained
            counts = ((gains, gained), (losses, share), (rows - gains - losses, rest))
            return -sum(n * math.log(max(p, 1e-300)) for n, p in counts if n)

        bounds = (max(0.0, -difference), (1 - difference) / 2)
        share = optimize.minimize_scalar(
            unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}
        ).x
        variance = rows * (2 * share + difference - difference**2)
        return (gains - losses - rows * difference) / math.sqrt(variance) - z

    return float(optimize.brentq(statistic, -0.999, (gains - losses) / rows - 1e-9))


@pytest.mark.parametrize(
    ("gains", "losses", "rows"), [(2, 1, 10), (12, 3, 50), (3, 12, 50), (40, 45, 300), (0, 5, 60)]
)
def test_the_bound_of_a_share_is_tangos(gains: int, losses: int, rows: int) -> None:
    expected = score_bound(gains, losses, rows, 1.6448536)
    assert lower_bound(gains, losses, rows, 0.95) == pytest.approx(expected, abs=1e-5)


def test_models_that_agree_on_few_rows_may_still_differ() -> None:
    """By hand: without a differing row the bound is -z² / (rows + z²)."""
    same = answers([0, 1, 1, 0], [0, 1, 0, 0])
    found = compare(MULTICLASS, "accuracy", (same, same), confidence=0.95)
    assert found.advantage == 0.0
    assert found.low == pytest.approx(-(1.6448536**2) / (4 + 1.6448536**2), abs=1e-6)
    assert found.detectable == 1.0  # (1.645 + 0.842)² / 4 is more than all there is
    assert not found.is_not_inferior(0.05)


def test_a_score_that_is_alike_on_each_row_leaves_the_detectable_open() -> None:
    truth = np.array([1.0, 2.0, 3.0])
    same = Answers(truth, truth + 0.5, np.ones(3))
    found = compare("regression", "mse", (same, same), confidence=0.95)
    assert (found.advantage, found.low) == (0.0, 0.0)
    assert math.isnan(found.detectable)


def test_errors_that_both_models_make_do_not_count() -> None:
    """Unpaired, two models with 50 % errors on 40 rows could not be told apart within 0.2."""
    labels = [0] * 40
    wrong_half = [1] * 20 + [0] * 20
    better_by_one = [1] * 19 + [0] * 21
    pair = (answers(labels, wrong_half), answers(labels, better_by_one))
    assert compare(MULTICLASS, "accuracy", pair, confidence=0.95).is_not_inferior(0.13)


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
