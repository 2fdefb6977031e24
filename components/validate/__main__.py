"""`python -m components.validate`: statistics, schema, anomalies and drift of the raw examples."""

from typing import TYPE_CHECKING

from components.runs.step import Outcome, Step, main
from contract.records.data import IngestRecord, ValidateRecord
from contract.schema.pipeline import PipelineConfig
from contract.storage import write_atomically

if TYPE_CHECKING:
    from components.validate.validate import Validation


def work(step: Step) -> Outcome:
    """Validate what the run ingested, against the schema in force and the last run."""
    from components.validate.last_run import find_last_run
    from components.validate.validate import SCHEMA, Data, refuse, validate  # imports matplotlib

    ingested = step.upstream("ingest", IngestRecord)
    folder = step.run.step("ingest")
    shards = {split: [folder / name for name in names] for split, names in ingested.shards.items()}
    in_force = step.run.of_pipeline.data_schema
    last = find_last_run(step.run)
    found = validate(step.config, Data(ingested, shards), in_force, last, step.output)
    _track(step, found)
    refuse(found.record.anomalies)
    is_first = not in_force.exists()
    write_atomically(in_force, (step.output / SCHEMA).read_bytes())
    artifacts = {"statistics": found.record.statistics, "schema": SCHEMA}
    reasons = _reasons(step.config, found, is_first)
    return Outcome(found.record, artifacts, _metrics(found), reasons)


def _track(step: Step, found: "Validation") -> None:
    from components.validate.validate import PICTURE

    step.tracker.log_artifact(step.output / PICTURE)
    step.tracker.log_artifact(step.output / found.record.data_schema)
    step.tracker.log_metrics({f"drift/{n}": drift.distance for n, drift in found.drifts.items()})
    train = found.statistics.splits["train"]
    step.tracker.log_metrics({f"missing_ratio/{n}": c.missing_ratio for n, c in train.items()})
    step.tracker.log_table(_label_table(found.record), "labels.json")
    if anomalies := found.record.anomalies:
        columns = ("feature", "kind", "message", "is_fatal")
        table = {c: [getattr(anomaly, c) for anomaly in anomalies] for c in columns}
        step.tracker.log_table(table, "anomalies.json")


def _label_table(record: ValidateRecord) -> dict[str, list[str | float]]:
    """Return a row for each head, split and class (or figure of a regression's label)."""
    rows = [
        (head, split, name, value)
        for head, by_split in record.labels.items()
        for split, figures in by_split.items()
        for name, value in figures.items()
    ]
    columns = ("head", "split", "class", "share")
    return {column: [row[place] for row in rows] for place, column in enumerate(columns)}


def _metrics(found: "Validation") -> dict[str, float]:
    drift = max((d.distance for d in found.drifts.values()), default=0.0)
    return {"anomalies": float(len(found.record.anomalies)), "max_drift": drift}


def _reasons(config: PipelineConfig, found: "Validation", is_first: bool) -> tuple[str, ...]:
    from components.validate.labels import labels_told

    reasons = [f"{anomaly.kind}: {anomaly.message}" for anomaly in found.record.anomalies]
    reasons += labels_told(config.heads, found.statistics.splits)
    if is_first:
        reasons.append("the first good run: its schema is in force from now on")
    if found.record.compared_with_run:
        reasons.append(f"compared with run {found.record.compared_with_run}")
    return tuple(reasons)


if __name__ == "__main__":
    main("validate", work)
