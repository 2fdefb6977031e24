import math

import numpy as np
import pytest

from components.deploy.judging.accuracy import (
    RISKS,
    Figures,
    interval,
    log_evidence,
    log_evidence_worse,
)


def figures(right: int, wrong: int, weight: float = 1.0) -> Figures:
    values = np.array([1.0] * right + [0.0] * wrong)
    return Figures(values, np.full(len(values), weight))


def test_one_right_answer_pays_each_risk_what_it_is_above_the_ratio():
    # 1 + 0.5 x (0.02, 0.1, 0.3, 0.8), and 1 - the same: in the mean 1.1525 and 0.8475
    above, below = (log_evidence(figures(1, 0), np.array([0.5]), side) for side in (1.0, -1.0))
    assert math.exp(above[0]) == pytest.approx(1.1525)
    assert math.exp(below[0]) == pytest.approx(0.8475)


def test_a_label_of_half_the_weight_pays_half():
    found = log_evidence(figures(1, 0, weight=0.5), np.array([0.5]), 1.0)
    assert math.exp(found[0]) == pytest.approx(1 + (1.1525 - 1) / 2)


def test_a_choice_of_one_in_ten_weighs_ten_times_one_that_is_always_made():
    found = Figures.of(np.array([1.0, 0.0]), np.array([0.1, 1.0]), 0.1)
    assert found.weights.tolist() == [1.0, 0.1]
    # 10 of 11: one row stands for ten that were not chosen
    assert found.accuracy == pytest.approx(10 / 11)


def test_a_rarer_choice_later_leaves_the_bets_before_it_as_they_were():
    probabilities = np.array([0.5, 1.0, 0.1])
    right = np.array([1.0, 0.0, 1.0])
    before, after = (Figures.of(right[:n], probabilities[:n], 0.1) for n in (2, 3))
    assert after.weights[:2].tolist() == before.weights.tolist() == [0.2, 0.1]


def test_without_labels_nothing_is_known():
    nothing = Figures.of(np.array([]), np.array([]), 1.0)
    assert nothing.accuracy == 0.0
    assert interval(nothing, 0.01) == (0.0, 1.0)
    assert log_evidence_worse(nothing, figures(1_000, 0), 0.01) <= 0.0
    assert log_evidence_worse(figures(0, 1_000), nothing, 0.01) <= 0.0


def test_the_evidence_is_that_of_the_ratio_which_speaks_least_against_the_version():
    """A second implementation: products, one by one, over a grid of ratios."""
    version, before, margin = figures(70, 30), figures(90, 10), 0.01

    def gained(found: Figures, ratio: float, side: int) -> float:
        ratio = min(max(ratio, 0.0), 1.0)
        products = [
            math.prod(1 + side * risk * (float(figure) - ratio) for figure in found.right)
            for risk in RISKS
        ]
        return sum(products) / len(products)

    least = min(
        gained(before, ratio, 1) * gained(version, ratio - margin, -1)
        for ratio in np.linspace(0.0, 1.0, 401)
    )
    found = math.exp(log_evidence_worse(version, before, margin))
    assert found <= least
    assert found == pytest.approx(least, rel=0.15)  # what the steps of both grids cost at most


def test_twenty_points_fewer_on_500_labels_each_are_proven_and_the_margin_is_not():
    assert log_evidence_worse(figures(350, 150), figures(450, 50), 0.01) > math.log(100)
    assert log_evidence_worse(figures(445, 55), figures(450, 50), 0.01) < 0.0
    assert log_evidence_worse(figures(450, 50), figures(350, 150), 0.01) < 0.0


def test_an_accuracy_is_within_its_interval_which_gets_narrower():
    low, high = interval(figures(90, 10), 0.01)
    assert low < 0.9 < high
    narrower = interval(figures(9_000, 1_000), 0.01)
    assert 0.88 < narrower[0] < 0.9 < narrower[1] < 0.92


def chosen(random: np.random.Generator, accuracy: float, size: int) -> Figures:
    """Return labels that are mostly of unsure answers, which are wrong more often."""
    is_unsure = random.random(size) < 0.2
    wrong = (1 - accuracy) * np.where(is_unsure, 3.0, 0.5)
    probabilities = np.where(is_unsure, 1.0, 0.25)
    is_asked = random.random(size) < probabilities
    right = (random.random(size) >= wrong)[is_asked].astype(float)
    return Figures.of(right, probabilities[is_asked], 0.25)


def test_equal_versions_whose_unsure_answers_are_labelled_are_seldom_ever_found_worse():
    random, found = np.random.default_rng(5), 0
    for _ in range(60):
        version, before = (chosen(random, 0.9, 1_000) for _ in range(2))
        looks = range(50, min(len(version.right), len(before.right)), 100)
        found += any(
            log_evidence_worse(_first(version, n), _first(before, n), 0.0) >= math.log(10)
            for n in looks
        )
    # at most a tenth of 60 by Ville's bound; 3 standard deviations more
    assert found <= 13


def asked_by_harvests(random: np.random.Generator, accuracy: float) -> list[Figures]:
    """Return the labels known after each of ten harvests, weighted as an audit would have them.

    Of 200 to 2,000 rows a harvest asks about 40: 4 of any, 36 by worth, unsure ones ten times as
    often, which are wrong more often.
    """
    rights, weights, known = [], [], []
    for rows in random.integers(200, 2_000, 10):
        is_unsure = random.random(rows) < 0.2
        worth = np.where(is_unsure, 1.0, 0.1)
        audit, by_worth = 4 / rows, np.minimum(1.0, 36 * worth / worth.sum())
        chance = 1 - (1 - audit) * (1 - by_worth)
        is_asked = random.random(rows) < chance
        wrong = (1 - accuracy) * np.where(is_unsure, 3.0, 0.5)
        rights.append((random.random(rows) >= wrong)[is_asked].astype(float))
        weights.append((audit / chance)[is_asked])
        known.append(Figures(np.concatenate(rights), np.concatenate(weights)))
    return known


def test_equal_versions_are_seldom_ever_found_worse_by_what_a_label_loop_asks():
    random, found = np.random.default_rng(8), 0
    for _ in range(24):
        version, before = (asked_by_harvests(random, 0.9) for _ in range(2))
        found += any(
            log_evidence_worse(*pair, margin=0.0) >= math.log(10)
            for pair in zip(version, before, strict=True)
        )
    # at most a tenth of 24 by Ville's bound; 3 standard deviations more
    assert found <= 6
    worse, good = (asked_by_harvests(random, accuracy)[-1] for accuracy in (0.3, 0.95))
    assert log_evidence_worse(worse, good, 0.0) >= math.log(10)


def test_labels_of_unsure_answers_alone_would_understate_the_accuracy_and_weights_do_not():
    sample = chosen(np.random.default_rng(6), 0.9, 200_000)
    assert sample.right.mean() < 0.86
    assert sample.accuracy == pytest.approx(0.9, abs=0.005)


def _first(figures: Figures, count: int) -> Figures:
    return Figures(figures.right[:count], figures.weights[:count])
