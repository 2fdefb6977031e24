"""How accurate versions are by people's labels, as they come."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cli.runs.standing import stored_plan
from contract.errors import UserError
from contract.records.quality import LabelledVersion

if TYPE_CHECKING:
    from components.deploy.judging.accuracy import Figures
    from components.deploy.labelled.answers import Labels
    from components.labels.consensus.settling import Settlement
    from contract.layout import PipelineLayout
    from contract.schema.pipeline import PipelineConfig
    from serving.labels.store.records import Answered, Topic

    Place = tuple[str, str]


def online_accuracy(
    layout: "PipelineLayout",
    config: "PipelineConfig",
    topic: "Topic",
    said: "Sequence[Answered]",
    found: "Settlement",
) -> list[LabelledVersion]:
    """Return the accuracy of each version that people have labelled, the newest version first.

    Labels of chosen rows count as those of the audit, each by one over the probability of its
    choice. They count however sure they are: rows that people find hard would be left out else.

    Raises:
        UserError: If people were asked about other classes than the config's.
    """
    from components.deploy.labelled.answers import labelled

    _check_classes(config, topic)
    head = topic.head
    labels = _labels(config, head, said, found)
    versions = sorted({one.version for one in said if one.version}, reverse=True)
    accuracy = list[LabelledVersion]()
    for version in versions if labels.found else ():
        by_head, _ = labelled(layout.predictions(version), labels, [head])
        figures, times = by_head[head].figures, by_head[head].times
        if times:
            low, high = accuracy_range(figures, config.deploy.alpha)
            accuracy.append(
                LabelledVersion(
                    version=version,
                    requests=len(times),
                    accuracy=round(figures.accuracy, 6),
                    low=low,
                    high=high,
                    first=times[0],
                    last=times[-1],
                )
            )
    return accuracy


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


def _labels(
    config: "PipelineConfig", head: str, said: "Sequence[Answered]", found: "Settlement"
) -> "Labels":
    """Return the consensus as labels that measure, with the probability of each row's choice."""
    from components.deploy.labelled.answers import Label, Labels

    chosen: Mapping[Place, float] = {
        (one.request_id, str(one.row)): one.probability for one in said
    }
    classes = config.heads[head].classes
    labels = {
        (one.place[0], int(one.place[1])): Label(
            {head: classes.index(one.label)}, chosen[one.place]
        )
        for one in found.labels
    }
    rarest = min((label.probability for label in labels.values()), default=1.0)
    return Labels(rarest, labels)
