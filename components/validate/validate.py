"""Validation: statistics and schema of this run's data, and what is wrong with them.

The schema in force belongs to the pipeline, not to a run. The first run without a fatal anomaly
writes it; every later one adds the columns and categories that it accepted, so that each is
reported once. A range follows the bounds that the config declares; a learned bound, and a type,
stay as they are until a person declares one or deletes the file.
"""

from dataclasses import dataclass
from pathlib import Path

from components.validate.anomalies import Comparison, find_anomalies
from components.validate.drift import Drift, measure_drift
from components.validate.figures import draw_distributions
from components.validate.labels import label_anomalies, labels_by_split
from components.validate.last_run import LastRun
from components.validate.leaks import feature_anomalies, row_anomalies
from components.validate.scan import Shards, Yardsticks, check_rows, scan
from components.validate.schemas import domains, infer_schema, read_schema, write_schema
from components.validate.single_features import single_skills
from components.validate.statistics import DataStatistics
from contract.errors import DataError
from contract.records.data import Anomaly, IngestRecord, ValidateRecord
from contract.schema.pipeline import PipelineConfig

STATISTICS = "statistics.json"
SCHEMA = "schema.json"
PICTURE = "distributions.png"


@dataclass(frozen=True)
class Validation:
    """The record, and what goes to MLflow beside it."""

    record: ValidateRecord
    statistics: DataStatistics
    drifts: dict[str, Drift]


@dataclass(frozen=True)
class Data:
    """What ingestion left: its record and its shards, as paths, by split."""

    record: IngestRecord
    shards: Shards


def validate(
    config: PipelineConfig, data: Data, schema_in_force: Path, last: LastRun | None, output: Path
) -> Validation:
    """Look through all raw examples; write statistics, schema and a picture to `output`.

    Whether an anomaly is fatal is in the record: `refuse` raises for it.

    Raises:
        DataError: If a shard is missing or damaged.
    """
    in_force = read_schema(schema_in_force)
    train = last.statistics.splits.get("train", {}) if last else {}
    edges = {name: column.bin_edges for name, column in train.items() if column.bin_edges}
    yardsticks = Yardsticks(edges, domains(in_force) if in_force else {})
    found = scan(config, data.shards, yardsticks, output)
    check_rows(found.statistics, data.record.examples)
    drifts = measure_drift(found, last.statistics) if last else {}
    schema = infer_schema(config, found.statistics, in_force)
    new = tuple(c for c in data.record.columns if last and last.columns and c not in last.columns)
    named = {*config.features, *(config.label_column(head) for head in config.heads)}
    unnamed = tuple(column for column in new if column not in named)
    comparison = Comparison(config.validate_, found, schema, in_force, drifts, unnamed)
    anomalies = (
        *find_anomalies(comparison),
        *label_anomalies(comparison, config.heads),
        *row_anomalies(comparison, data.record),
        *feature_anomalies(comparison, single_skills(config, data.shards)),
    )
    found.statistics.write(output / STATISTICS)
    write_schema(schema, output / SCHEMA)
    run_id = last.run_id if last else ""
    told = {anomaly.feature for anomaly in anomalies}
    figure = draw_distributions(found.statistics.splits["train"], drifts, told, run_id)
    figure.savefig(output / PICTURE, dpi=110)
    record = ValidateRecord(
        statistics=STATISTICS,
        data_schema=SCHEMA,
        anomalies=anomalies,
        labels=labels_by_split(config.heads, found.statistics.splits),
        repeated_rows=found.repeated_rows,
        compared_with_run=run_id,
    )
    return Validation(record, found.statistics, drifts)


def refuse(anomalies: tuple[Anomaly, ...]) -> None:
    """Raise DataError, with all anomalies, if one is fatal."""
    fatal = [anomaly for anomaly in anomalies if anomaly.is_fatal]
    if not fatal:
        return
    others = [anomaly for anomaly in anomalies if not anomaly.is_fatal]
    lines = [f"  {anomaly.kind}: {anomaly.message}" for anomaly in (*fatal, *others)]
    kinds = ", ".join(sorted({anomaly.kind for anomaly in fatal}))
    raise DataError(
        f"validate: {len(fatal)} anomalies that validate.fail_on names ({kinds}), "
        f"{len(others)} others:\n" + "\n".join(lines)
    )
