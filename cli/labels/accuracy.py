"""How accurate versions are by people's labels, as they come."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cli.runs.standing import stored_plan
from contract.errors import UserError
from contract.records.quality import LabelledSlice, LabelledVersion

if TYPE_CHECKING:
    from cli.labels.agreement import Agreement
    from components.deploy.judging.accuracy import Figures
    from components.deploy.labelled.answers import Labelled, Labels
    from contract.layout import PipelineLayout
    from contract.schema.pipeline import PipelineConfig
    from serving.labels.store.records import Topic


def online_accuracy(
    layout: "PipelineLayout", config: "PipelineConfig", agreed: "Agreement"
) -> list[LabelledVersion]:
    """Return the accuracy of each version that people have labelled, the newest version first.

    Labels of chosen rows count as those of the audit, each by one over the probability of its
    choice. They count however sure they are: rows that people find hard would be left out else.

    Raises:
        UserError: If people were asked about other classes than the config's.
    """
    from components.deploy.labelled.answers import labelled_slices

    _check_classes(config, agreed.topic)
    head, labels = agreed.topic.head, _labels(config, agreed)
    slices = {(request_id, int(row)): names for (request_id, row), names in agreed.slices.items()}
    versions = sorted({one.version for one in agreed.said if one.version}, reverse=True)
    accuracy = list[LabelledVersion]()
    for version in versions if labels.found else ():
        by_slice = labelled_slices(layout.predictions(version), labels, head, slices)
        if whole := by_slice.pop("", None):
            accuracy.append(_of_version(version, whole, by_slice, config.deploy.alpha))
    return accuracy


def _of_version(
    version: int, whole: "Labelled", by_slice: "Mapping[str, Labelled]", error: float
) -> LabelledVersion:
    values = Counter(name.partition("=")[0] for name in by_slice)
    slices = {
        name: LabelledSlice(**_figures(found, error / values[name.partition("=")[0]]))
        for name, found in sorted(by_slice.items())
    }
    first, last = whole.times[0], whole.times[-1]
    figures = _figures(whole, error)
    return LabelledVersion(version=version, first=first, last=last, slices=slices, **figures)


def _figures(found: "Labelled", error: float) -> dict[str, Any]:
    low, high = accuracy_range(found.figures, error)
    accuracy = round(found.figures.accuracy, 6)
    return {"requests": len(found.times), "accuracy": accuracy, "low": low, "high": high}


def accuracy_range(figures: "Figures", error: float) -> tuple[float, float]:
    """Return a range for the true accuracy, which a single look misses with about this chance.

    Of each request one figure counts. Not to be looked at again and again until it shows what
    somebody wants to see: the judge's evidence may be.

    Source:
        Wilson (1927), Journal of the American Statistical Association 22(158), with the number of
        equally weighted labels that are worth as much (Kish, 1965, Survey Sampling).
    """
    from components.quality.metrics import wilson_interval

    weights = figures.weights
    size = float(weights.sum() ** 2 / (weights**2).sum())
    low, high = wilson_interval(figures.accuracy, size, 1.0 - error)
    return round(low, 6), round(high, 6)


def champion_of(layout: "PipelineLayout") -> int:
    """Return the version in service; 0 if there is none."""
    return stored_plan(layout).champion or 0


def _check_classes(config: "PipelineConfig", topic: "Topic") -> None:
    """Refuse other classes or another order, since the log has their numbers; more may follow."""
    head = config.heads.get(topic.head)
    known = head.classes if head else ()
    if known[: len(topic.classes)] != topic.classes:
        raise UserError(
            f"{config.name}, head {topic.head}: people were asked about the classes "
            f"{', '.join(topic.classes)}, and the config has {', '.join(known) or 'none'}; use "
            "another database for the new classes"
        )


def _labels(config: "PipelineConfig", agreed: "Agreement") -> "Labels":
    """Return the consensus as labels that measure, with the probability of each row's choice."""
    from components.deploy.labelled.answers import Label, Labels

    chosen = {(one.request_id, str(one.row)): one.probability for one in agreed.said}
    head = agreed.topic.head
    classes = config.heads[head].classes
    labels = {
        (one.place[0], int(one.place[1])): Label(
            {head: classes.index(one.label)}, chosen[one.place]
        )
        for one in agreed.found.labels
    }
    rarest = min((label.probability for label in labels.values()), default=1.0)
    return Labels(rarest, labels)
