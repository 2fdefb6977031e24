"""The labels of the splits beside each other: shares of classes, or mean and deviation.

Metrics of a split that lacks a class, or has it far more often than the rows that are trained on,
say little about the model in service.
"""

from collections.abc import Iterator, Mapping
from math import log, sqrt

from components.validate.anomalies import Comparison
from components.validate.drift import jensen_shannon_distance
from components.validate.statistics import MOST_COMMON, ColumnStatistics
from contract.model_io import label_key
from contract.records.data import Anomaly
from contract.schema.data import HeadConfig

Labels = dict[str, dict[str, dict[str, float]]]  # by head, split, then class or figure

_SHOWN = 5
_CHANCE = 0.001  # differences that chance makes more often are not reported
# Normal distributions whose means are apart by d deviations have a divergence of about d**2 / 8.
_DISTANCE_OF_DEVIATION = sqrt(1 / (8 * log(2)))


def labels_by_split(
    heads: Mapping[str, HeadConfig], splits: Mapping[str, Mapping[str, ColumnStatistics]]
) -> Labels:
    """Return the share of each class by head and split, or the figures of a regression's label."""
    return {
        head: {name: _figures(settings, split[label_key(head)]) for name, split in splits.items()}
        for head, settings in heads.items()
    }


def label_anomalies(comparison: Comparison, heads: Mapping[str, HeadConfig]) -> Iterator[Anomaly]:
    """Yield classes that a split lacks, and splits whose labels differ far from those of train."""
    for head, settings in heads.items():
        columns = {n: s[label_key(head)] for n, s in comparison.scan.statistics.splits.items()}
        train = columns["train"]
        for split, column in columns.items():
            if lacking := _lacking(settings, train, column):
                message = f"{head}: {split} has no row of {_listed(lacking)}"
                yield comparison.anomaly(label_key(head), "missing_class", message)
        limit = comparison.settings.max_split_difference
        for split in ("eval", "test"):
            distance = _distance(settings, train, columns[split])
            if distance > limit:
                message = (
                    f"{head}: labels of {split} differ from those of train: Jensen-Shannon "
                    f"distance {distance:.3f}, {limit:g} may be; "
                    f"{_told(settings, {'train': train, split: columns[split]})}"
                )
                name = label_key(head)
                yield comparison.anomaly(name, "split_difference", message, distance, limit)


def labels_told(
    heads: Mapping[str, HeadConfig], splits: Mapping[str, Mapping[str, ColumnStatistics]]
) -> Iterator[str]:
    """Yield a line about each head: its labels in each split."""
    for head, settings in heads.items():
        columns = {name: split[label_key(head)] for name, split in splits.items()}
        yield f"{head}: {_told(settings, columns)}"


# --- inside -------------------------------------------------------------------------------------


def _figures(settings: HeadConfig, column: ColumnStatistics) -> dict[str, float]:
    if settings.classes:
        return {name: _share(column, name) for name in settings.classes[:MOST_COMMON]}
    found = {"mean": column.mean, "deviation": column.deviation}
    found |= {"minimum": column.minimum, "maximum": column.maximum}
    return {name: value for name, value in found.items() if value is not None}


def _share(column: ColumnStatistics, name: str) -> float:
    return column.most_common.get(name, 0) / column.values if column.values else 0.0


def _lacking(
    settings: HeadConfig, train: ColumnStatistics, column: ColumnStatistics
) -> tuple[str, ...]:
    """Return the classes that train lacks; of another split, those that only train has."""
    if len(settings.classes) > MOST_COMMON:
        return ()
    lacking = [name for name in settings.classes if name not in column.most_common]
    return tuple(name for name in lacking if column is train or name in train.most_common)


def _distance(settings: HeadConfig, train: ColumnStatistics, column: ColumnStatistics) -> float:
    """Return how far labels are from those of train, in [0, 1]; 0 if chance explains it.

    Source:
        Under one distribution, 8 n ln 2 times the divergence follows a chi-squared distribution
        with a degree of freedom fewer than there are classes; n is the harmonic sum of both counts.
        Lin (1991), IEEE Transactions on Information Theory 37(1), relates the two.
    """
    from scipy.special import chdtri

    if not train.values or not column.values:
        return 0.0
    if settings.classes:
        names = [*{**train.most_common, **column.most_common}]
        shares = [[_share(one, name) for name in names] for one in (train, column)]
        distance, freedom = jensen_shannon_distance(*shares), len(names) - 1
    else:
        apart = abs((column.mean or 0.0) - (train.mean or 0.0))
        deviation = max(train.deviation or 0.0, column.deviation or 0.0)
        distance = min(1.0, _DISTANCE_OF_DEVIATION * apart / deviation) if deviation else 0.0
        freedom = 1
    rows = 1 / (1 / train.values + 1 / column.values)
    is_chance = freedom < 1 or 8 * rows * log(2) * distance**2 < chdtri(freedom, _CHANCE)
    return 0.0 if is_chance else distance


def _told(settings: HeadConfig, columns: Mapping[str, ColumnStatistics]) -> str:
    if not settings.classes:
        each = (f"{c.mean:.4g} ± {c.deviation:.4g} in {n}" for n, c in columns.items() if c.values)
        return f"mean and deviation {', '.join(each)}"
    train = columns["train"]
    rarest = min(settings.classes, key=lambda name: train.most_common.get(name, 0))
    name = settings.classes[1] if len(settings.classes) == 2 else rarest
    each = (f"{_share(column, name):.1%} of {split}" for split, column in columns.items())
    rare = f"'{name}'" if len(settings.classes) == 2 else f"the rarest class, '{name}',"
    return f"{rare} is {', '.join(each)}"


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more classes"
