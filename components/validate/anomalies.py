"""What is not as it was or should be: this run against the schema in force and the last run."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2

from components.validate.drift import Drift
from components.validate.scan import Scan
from components.validate.schemas import describe_type, range_of
from components.validate.statistics import ColumnStatistics
from contract.errors import did_you_mean
from contract.model_io import LABEL_PREFIX
from contract.records.data import Anomaly
from contract.schema.data import ValidateConfig


@dataclass(frozen=True)
class Comparison:
    """All that anomalies are looked for in. `in_force` is None before the first good run."""

    settings: ValidateConfig
    scan: Scan
    schema: schema_pb2.Schema
    in_force: schema_pb2.Schema | None
    drifts: Mapping[str, Drift]
    new_source_columns: tuple[str, ...] = ()

    def anomaly(
        self,
        name: str,
        kind: Any,
        message: str,
        value: float | None = None,
        limit: float | None = None,
    ) -> Anomaly:
        """Return what was found of a feature; a kind in `validate.fail_on` is fatal."""
        return Anomaly(
            feature=name,
            kind=kind,
            message=message,
            value=value,
            limit=limit,
            is_fatal=kind in self.settings.fail_on,
        )


def find_anomalies(comparison: Comparison) -> tuple[Anomaly, ...]:
    """Return all anomalies; those of a kind in `validate.fail_on` are fatal."""
    found = [*_of_values(comparison), *_of_drift(comparison)]
    if comparison.in_force is not None:
        found += [*_of_columns(comparison, comparison.in_force)]
        found += [*_of_domains(comparison, comparison.in_force)]
    return tuple(found)


def _of_values(comparison: Comparison) -> Iterator[Anomaly]:
    limit = comparison.settings.max_missing_ratio
    for name, columns in _by_column(comparison).items():
        rows = sum(column.rows for column in columns)
        missing = sum(column.missing for column in columns)
        ratio = missing / rows if rows else 0.0
        if rows and missing == rows:
            message = f"{name}: no row has a value"
            yield comparison.anomaly(name, "missing_column", message, value=1.0)
        elif ratio > limit:
            message = f"{name}: {ratio:.1%} of rows have no value, {limit:.1%} may"
            yield comparison.anomaly(name, "missing", message, value=ratio, limit=limit)


def _of_drift(comparison: Comparison) -> Iterator[Anomaly]:
    limit = comparison.settings.max_drift
    for name, drift in comparison.drifts.items():
        if drift.distance > limit:
            message = (
                f"{name}: drifted from the last run: Jensen-Shannon distance {drift.distance:.3f}, "
                f"{limit:g} may be; most in {_moved_most(drift)}"
            )
            yield comparison.anomaly(name, "drift", message, value=drift.distance, limit=limit)


def _of_columns(comparison: Comparison, in_force: schema_pb2.Schema) -> Iterator[Anomaly]:
    now = {feature.name: feature for feature in comparison.schema.feature}
    before = {feature.name: feature for feature in in_force.feature}
    added = [name for name in now if name not in before]
    for name in before:
        if name not in now:
            # The config is what its author means, so this is told and never fatal.
            hint = did_you_mean(name, added)
            message = f"{name}: the schema in force has it, the config no longer names it{hint}"
            yield Anomaly(feature=name, kind="missing_column", message=message)
    for name in added:
        message = f"{name}: new, the schema in force does not have it"
        yield comparison.anomaly(name, "new_column", message)
    for name in comparison.new_source_columns:
        message = f"{name}: new in the source, and not in the config: it is left out"
        yield comparison.anomaly(name, "new_column", message)
    for name in now.keys() & before.keys():
        if (found := describe_type(now[name])) != (expected := describe_type(before[name])):
            message = (
                f"{name}: is {found}, the schema in force says {expected}. If this is intended, "
                "delete the pipeline's schema.json: the next good run writes a new one."
            )
            yield comparison.anomaly(name, "type", message)


def _of_domains(comparison: Comparison, in_force: schema_pb2.Schema) -> Iterator[Anomaly]:
    columns = _by_column(comparison)
    ranges = {feature.name: range_of(feature) for feature in comparison.schema.feature}
    for feature in in_force.feature:
        if feature.name not in columns:
            continue
        if (bounds := ranges.get(feature.name)) is not None:
            yield from _of_range(comparison, feature.name, bounds)
        outside = comparison.scan.outside_domain.get(feature.name, 0)
        values = sum(column.values for column in columns[feature.name])
        limit = comparison.settings.max_new_category_ratio
        if outside > limit * values:
            new = _new_categories(columns[feature.name], feature)
            message = (
                f"{feature.name}: {outside / values:.1%} of values are not in the schema in force "
                f"({new}), {limit:.1%} may be"
            )
            yield comparison.anomaly(feature.name, "new_category", message, outside / values, limit)


def _of_range(comparison: Comparison, name: str, bounds: tuple[float, float]) -> Iterator[Anomaly]:
    columns = _by_column(comparison)[name]
    lowest = min((c.minimum for c in columns if c.minimum is not None), default=None)
    highest = max((c.maximum for c in columns if c.maximum is not None), default=None)
    if lowest is not None and lowest < bounds[0]:
        message = (
            f"{name}: least value {lowest:g}, the schema in force allows {bounds[0]:g}; "
            + _accept(name, "minimum")
        )
        yield comparison.anomaly(name, "range", message, lowest, bounds[0])
    if highest is not None and highest > bounds[1]:
        message = (
            f"{name}: greatest value {highest:g}, the schema in force allows {bounds[1]:g}; "
            + _accept(name, "maximum")
        )
        yield comparison.anomaly(name, "range", message, highest, bounds[1])


def _accept(name: str, bound: str) -> str:
    """Say how a range is changed."""
    if name.startswith(LABEL_PREFIX):
        return (
            "if this is intended, delete the pipeline's schema.json: the next run writes a new one"
        )
    return f"if this is intended, set features.{name}.{bound} in pipeline.yaml"


# --- inside -------------------------------------------------------------------------------------


def _by_column(comparison: Comparison) -> dict[str, list[ColumnStatistics]]:
    splits = comparison.scan.statistics.splits.values()
    names: Iterable[str] = next(iter(splits), {})
    return {name: [split[name] for split in splits] for name in names}


def _moved_most(drift: Drift) -> str:
    moved = [abs(now - before) for before, now in zip(drift.before, drift.now, strict=True)]
    place = moved.index(max(moved))
    return f"'{drift.bins[place]}': {drift.before[place]:.1%} before, {drift.now[place]:.1%} now"


def _new_categories(columns: list[ColumnStatistics], feature: schema_pb2.Feature) -> str:
    known = set(feature.string_domain.value)
    new = sorted({name for column in columns for name in column.most_common} - known)
    shown = ", ".join(f"'{name}'" for name in new[:5])
    return shown if len(new) <= 5 else f"{shown} and {len(new) - 5} more"
