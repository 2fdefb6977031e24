"""The candidate on the test part as a picture: confusion matrix, ROC curve or scatter."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, RocCurveDisplay

from components.metrics import Answers
from contract.schema import HeadConfig

_MOST_LABELLED_CLASSES = 20
_MOST_POINTS = 5000


def draw(head: str, config: HeadConfig, answers: Answers) -> Figure:
    """Draw one head: confusion matrix, for a binary head the ROC curve too, else a scatter."""
    if config.task == "regression":
        figure = Figure(figsize=(6, 6), layout="constrained")
        _scatter(figure.subplots(), answers)
    elif config.task == "binary_classification":
        figure = Figure(figsize=(12, 6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _confusion(left, config, answers)
        _roc(right, config, answers)
    else:
        figure = Figure(figsize=(8, 8), layout="constrained")
        _confusion(figure.subplots(), config, answers)
    figure.suptitle(f"{head} on the test part, {len(answers.labels)} rows")
    return figure


def _confusion(axes: Axes, config: HeadConfig, answers: Answers) -> None:
    is_small = len(config.classes) <= _MOST_LABELLED_CLASSES
    ConfusionMatrixDisplay.from_predictions(
        answers.labels,
        answers.scores.argmax(axis=1),
        labels=range(len(config.classes)),
        display_labels=config.classes if is_small else None,
        include_values=is_small,
        cmap="Blues",
        colorbar=False,
        ax=axes,
    )


def _roc(axes: Axes, config: HeadConfig, answers: Answers) -> None:
    axes.set_title(f"ROC, positive class {config.classes[1]}")
    if len(np.unique(answers.labels)) < 2:
        axes.text(0.5, 0.5, "one class only", ha="center")
        return
    RocCurveDisplay.from_predictions(
        answers.labels, answers.scores[:, 1], plot_chance_level=True, ax=axes
    )


def _scatter(axes: Axes, answers: Answers) -> None:
    axes.scatter(answers.labels[:_MOST_POINTS], answers.scores[:_MOST_POINTS], s=6, alpha=0.4)
    ends = [answers.labels.min(), answers.labels.max()]
    axes.plot(ends, ends, color="grey", linewidth=1)
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
