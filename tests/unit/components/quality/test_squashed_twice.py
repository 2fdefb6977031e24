"""Probabilities that went through a sigmoid or softmax once more."""

import numpy as np
import pytest

from components.quality.squashed_twice import are_squashed_twice, in_words


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x)
    return powers / powers.sum(axis=1, keepdims=True)


def binary(logits: np.ndarray) -> np.ndarray:
    return np.stack([sigmoid(-logits), sigmoid(logits)], axis=1).astype(np.float32)


LOGITS = np.random.default_rng(0).normal(0, 3, (200, 3))


def test_a_sigmoid_of_a_sigmoid_is_found_and_one_alone_is_not() -> None:
    assert are_squashed_twice("binary_classification", binary(sigmoid(LOGITS[:, 0])))
    assert not are_squashed_twice("binary_classification", binary(LOGITS[:, 0]))


def test_a_softmax_of_a_softmax_is_found_and_one_alone_is_not() -> None:
    once = softmax(LOGITS).astype(np.float32)
    assert are_squashed_twice("multiclass_classification", softmax(once))
    assert not are_squashed_twice("multiclass_classification", once)


@pytest.mark.parametrize(
    ("task", "scores"),
    [
        ("binary_classification", binary(0.4 + 0.1 * sigmoid(LOGITS[:, 0]))),  # knows nothing yet
        ("multiclass_classification", softmax(0.05 * LOGITS)),
        ("binary_classification", binary(sigmoid(LOGITS[:10, 0]))),  # too few rows
        ("multiclass_classification", np.eye(3)[np.arange(30) % 3]),
        ("regression", sigmoid(LOGITS[:, 0])),
    ],
)
def test_other_answers_are_not_accused(task: str, scores: np.ndarray) -> None:
    assert not are_squashed_twice(task, scores)


def test_the_warning_names_the_head_and_the_bounds() -> None:
    warning = in_words("y", "binary_classification")
    assert "head 'y': the model's outputs look like probabilities" in warning
    assert "(all answers are within 0.5 and 0.73)" in warning
    assert "ends in a softmax" in in_words("y", "multiclass_classification")
