"""What a label is worth: by hand for a few rows."""

import numpy as np
import pytest

from components.labels.choosing.measures import (
    disagreement,
    entropy,
    least_confidence,
    margin,
    novelty,
)

SCORES = np.array([[1, 0, 0], [0.5, 0.25, 0.25], [0.5, 0.5, 0], [1 / 3] * 3], np.float32)


def test_least_confidence_is_the_best_class_against_an_even_share() -> None:
    assert least_confidence(SCORES) == pytest.approx([0, 0.75, 0.75, 1])


def test_the_margin_is_between_the_two_best_classes() -> None:
    assert margin(SCORES) == pytest.approx([0, 0.75, 1, 1])


def test_entropy_is_over_its_largest_value() -> None:
    # -(0.5 ln 0.5 + 2 * 0.25 ln 0.25) = 1.5 ln 2, and ln 2, over ln 3
    wanted = [0, 1.5 * np.log(2) / np.log(3), np.log(2) / np.log(3), 1]
    assert entropy(SCORES) == pytest.approx(wanted, abs=1e-6)


def test_disagreement_is_what_has_to_move_from_one_answer_to_the_other() -> None:
    others = np.array([[0, 0, 1], [0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [1, 0, 0]], np.float32)
    assert disagreement(SCORES, others) == pytest.approx([1, 0, 0.25, 2 / 3])


def test_novel_is_what_is_far_from_every_reference() -> None:
    vectors = np.array([[0, 0], [3, 4], [6, 8]], np.float32)
    assert novelty(vectors, vectors[:1]) == pytest.approx([0, 0.5, 1])
    assert novelty(vectors, vectors) == pytest.approx([0, 0, 0])
