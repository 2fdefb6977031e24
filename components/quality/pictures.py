"""A head's curves as one picture: confusion matrix, ROC, precision-recall, reliability."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from contract.records.evaluation import Curve, Curves
from contract.schema.data import HeadConfig

_MOST_LABELLED_CLASSES = 20
_PANEL_INCHES = 4.5


def draw(config: HeadConfig, curves: Curves, title: str) -> Figure:
    """Draw one head, a panel for each curve that there is."""
    panels = _panels(config, curves)
    figure = Figure(
        figsize=(_PANEL_INCHES * max(1, len(panels)), _PANEL_INCHES), layout="constrained"
    )
    figure.suptitle(title)
    if not panels:
        figure.text(0.5, 0.5, "no finite answer to draw", ha="center")
        return figure
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        panel(axes)
    return figure


def _panels(config: HeadConfig, curves: Curves) -> list:  # type: ignore[type-arg]
    panels = []
    if curves.confusion:
        panels.append(lambda axes: _confusion(axes, config, curves))
    whose = f"class {config.classes[1]}" if len(config.classes) == 2 else "all classes, micro"
    if (roc := curves.roc) is not None:
        names = ("false positive rate", "true positive rate")
        panels.append(lambda axes: _curve(axes, roc, f"ROC, {whose}", names))
    if (recall := curves.precision_recall) is not None:
        title = f"Precision and recall, {whose}"
        panels.append(lambda axes: _curve(axes, recall, title, ("recall", "precision")))
    if (reliability := curves.reliability) is not None:
        panels.append(lambda axes: _reliability(axes, config, reliability))
    return panels


def _confusion(axes: Axes, config: HeadConfig, curves: Curves) -> None:
    counts = np.array(curves.confusion)
    axes.imshow(counts, cmap="Blues")
    axes.set(title="Confusion matrix", xlabel="Predicted label", ylabel="True label")
    if len(config.classes) > _MOST_LABELLED_CLASSES:
        return
    axes.set_xticks(range(len(config.classes)), config.classes)
    axes.set_yticks(range(len(config.classes)), config.classes)
    form = ".0f" if np.all(counts == np.round(counts)) else ".3g"
    middle = (counts.max() + counts.min()) / 2
    for (truth, called), count in np.ndenumerate(counts):
        color = "white" if count > middle else "black"
        axes.text(called, truth, format(count, form), ha="center", va="center", color=color)


def _curve(axes: Axes, curve: Curve, title: str, names: tuple[str, str]) -> None:
    axes.plot(curve.x, curve.y, drawstyle="steps-post")
    axes.set(title=title, xlabel=names[0], ylabel=names[1], xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))


def _reliability(axes: Axes, config: HeadConfig, curve: Curve) -> None:
    ends = [min(*curve.x, *curve.y), max(*curve.x, *curve.y)]
    names = ("mean prediction", "mean label")
    if config.task != "regression":
        ends, names = [0.0, 1.0], ("probability given", "share in truth")
    axes.plot(ends, ends, color="grey", linewidth=1)
    axes.plot(curve.x, curve.y, marker="o")
    axes.set(title="Reliability", xlabel=names[0], ylabel=names[1])
