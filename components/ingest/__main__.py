"""`python -m components.ingest`: raw data to sharded TFRecords of raw examples."""

from datetime import UTC, datetime

from components.data.label_deltas import list_deltas
from components.ingest.ingest import EXAMPLES, ingest
from components.runs import retention
from components.runs.champions import best_kept
from components.runs.step import Outcome, Step, main
from contract.records.data import IngestRecord
from contract.schema.data import SPLITS


def work(step: Step) -> Outcome:
    """Make room, then ingest the run's sources and all label deltas that are there now."""
    layout = step.run.of_pipeline
    plan = retention.stored_plan(layout)
    best = best_kept(layout, plan, step.config)
    retention.apply(layout, step.config.retention, plan, datetime.now(UTC), best)
    deltas = list_deltas(layout)
    record = ingest(step.config, deltas, step.output, step.run.dead_letter)
    if record.dead_letter:
        step.tracker.log_artifact(step.output / record.dead_letter)
    return Outcome(record, {"examples": EXAMPLES}, _metrics(record), _reasons(record))


def _metrics(record: IngestRecord) -> dict[str, float]:
    figures = {f"{split}_examples": float(count) for split, count in record.examples.items()}
    groups = {"parted_groups": float(record.parted_groups)} if record.groups else {}
    return {**figures, "bad_rows": float(record.bad_rows), **groups}


def _reasons(record: IngestRecord) -> tuple[str, ...]:
    reasons = [f"{count:,} bad rows: {why}" for why, count in record.bad_row_reasons.items()]
    if record.cuts:
        reasons.append(f"split by time: {_cuts(record)}")
    if record.parted_groups:
        reasons.append(
            f"{record.parted_groups:,} of {record.groups:,} groups have rows in several splits"
        )
    if record.label_deltas:
        reasons.append(
            f"{len(record.label_deltas)} label deltas read; they replace "
            f"{record.replaced_rows:,} rows of older data"
        )
    return tuple(reasons)


def _cuts(record: IngestRecord) -> str:
    return ", ".join(f"{s} from {c}" for s, c in zip(SPLITS[1:], record.cuts, strict=False))


if __name__ == "__main__":
    main("ingest", work)
