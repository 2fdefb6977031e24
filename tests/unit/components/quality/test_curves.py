"""Curves against hand arithmetic and scikit-learn's own figures, and at their edges."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from components.quality.curves import curves_of
from components.quality.metrics import Answers
from components.quality.pictures import draw
from contract.records.evaluation import Curves
from contract.schema.data import HeadConfig

BINARY, MULTICLASS, REGRESSION = (
    "binary_classification",
    "multiclass_classification",
    "regression",
)


def binary(examples: int = 3000) -> Answers:
    random = np.random.default_rng(1)
    chance = random.random(examples)
    labels = (random.random(examples) < chance).astype(np.int64)  # perfectly reliable
    return Answers(labels, np.stack([1 - chance, chance], axis=1), np.ones(examples))


def test_a_confusion_matrix_counts_weights_by_truth_and_call():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    answers = Answers(np.array([0, 1, 1]), scores, np.array([1.0, 2.0, 3.0]))
    assert curves_of(BINARY, answers).confusion == ((1.0, 0.0), (3.0, 2.0))


def test_the_area_below_a_thinned_roc_is_the_auc():
    answers = binary()
    roc = curves_of(BINARY, answers).roc
    assert roc is not None
    assert len(roc.x) <= 200
    area = np.trapezoid(roc.y, roc.x)
    assert area == pytest.approx(
        sklearn_metrics.roc_auc_score(answers.labels, answers.scores[:, 1]), abs=2e-3
    )


def test_precision_and_recall_at_a_threshold_lie_on_the_curve():
    answers = binary()
    curve = curves_of(BINARY, answers).precision_recall
    assert curve is not None
    called = answers.scores[:, 1] > 0.5
    recall = sklearn_metrics.recall_score(answers.labels, called)
    expected = sklearn_metrics.precision_score(answers.labels, called)
    assert np.interp(recall, curve.x, curve.y) == pytest.approx(expected, abs=0.01)


def test_a_reliable_model_lies_on_the_diagonal():
    curve = curves_of(BINARY, binary()).reliability
    assert curve is not None
    assert len(curve.x) == 10
    # of 300 examples a share has a standard error of at most 0.03; four of those
    assert np.abs(np.subtract(curve.x, curve.y)).max() < 0.12


def test_equal_answers_are_one_bin():
    answers = Answers(np.array([0, 1, 1, 1]), np.tile([0.4, 0.6], (4, 1)), np.ones(4))
    curve = curves_of(BINARY, answers).reliability
    assert curve is not None
    assert (curve.x, curve.y) == (pytest.approx([0.6]), pytest.approx([0.75]))


def test_the_reliability_of_a_regression_is_mean_label_by_mean_prediction():
    values = np.arange(100.0)
    curve = curves_of(REGRESSION, Answers(values + 1, values, np.ones(100))).reliability
    assert curve is not None
    assert np.subtract(curve.y, curve.x) == pytest.approx(np.ones(10))


def test_several_classes_are_averaged_over_all_decisions():
    random = np.random.default_rng(2)
    scores = random.dirichlet(np.ones(3), 500)
    answers = Answers(random.integers(0, 3, 500), scores, np.ones(500))
    roc = curves_of(MULTICLASS, answers).roc
    assert roc is not None
    expected = sklearn_metrics.roc_auc_score(
        np.eye(3)[answers.labels].ravel(), answers.scores.ravel()
    )
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("seed", range(20))
def test_curves_are_those_of_scikit_learn_with_weights_and_equal_scores(seed: int):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, 60)
    chance = random.integers(0, 30, 60) / 32  # many equal ones
    weights = random.integers(0, 4, 60).astype(float)  # some count for nothing
    curves = curves_of(BINARY, Answers(labels, np.stack([1 - chance, chance], axis=1), weights))

    assert curves.roc is not None and curves.precision_recall is not None
    false, true, _ = sklearn_metrics.roc_curve(labels, chance, sample_weight=weights)
    assert curves.roc.x == pytest.approx(false)
    assert curves.roc.y == pytest.approx(true)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(
        labels, chance, sample_weight=weights, drop_intermediate=True
    )
    assert curves.precision_recall.x == pytest.approx(recall[::-1])
    assert curves.precision_recall.y == pytest.approx(precision[::-1])


def test_a_confusion_matrix_is_that_of_scikit_learn():
    random = np.random.default_rng(3)
    scores, labels = random.dirichlet(np.ones(4), 90), random.integers(0, 4, 90)
    answers = Answers(labels, scores, random.random(90))
    expected = sklearn_metrics.confusion_matrix(
        labels, scores.argmax(axis=1), labels=range(4), sample_weight=answers.weights
    )
    assert np.array(curves_of(MULTICLASS, answers).confusion) == pytest.approx(expected)


def test_a_matrix_shows_truth_by_row_and_the_call_by_column():
    head = HeadConfig(task="binary_classification", classes=("no", "yes"))
    axes, *_ = draw(head, Curves(confusion=((8.0, 1.0), (0.5, 2.0))), "title").axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "8", (1, 0): "1", (0, 1): "0.5", (1, 1): "2"}
    labels = [axes.get_xlabel(), axes.get_ylabel()]
    assert labels == ["Predicted label", "True label"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["no", "yes"]


def test_classes_that_no_weighted_example_has_leave_curves_out():
    answers = Answers(np.array([0, 1]), np.array([[0.7, 0.3], [0.2, 0.8]]), np.array([1.0, 0.0]))
    curves = curves_of(BINARY, answers)
    assert (curves.roc, curves.precision_recall) == (None, None)


def test_what_is_undefined_is_left_out():
    one_class = Answers(np.zeros(5, np.int64), np.tile([0.7, 0.3], (5, 1)), np.ones(5))
    curves = curves_of(BINARY, one_class)
    assert (curves.roc, curves.precision_recall) == (None, None)
    broken = Answers(np.zeros(5, np.int64), np.full((5, 2), np.nan), np.ones(5))
    assert curves_of(BINARY, broken) == Curves()


def test_each_curve_has_a_panel():
    head = HeadConfig(task="binary_classification", classes=("no", "yes"))
    figure = draw(head, curves_of(BINARY, binary()), "kind, checkpoint 10")
    assert [axes.get_title() for axes in figure.axes] == [
        "Confusion matrix",
        "ROC, class yes",
        "Precision and recall, class yes",
        "Reliability",
    ]
    assert draw(head, Curves(), "nothing").axes == []
