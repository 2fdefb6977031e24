"""`python -m components.ingest`: raw data to sharded TFRecords of raw examples."""

from datetime import UTC, datetime

from components.data.label_deltas import list_deltas
from components.ingest.ingest import EXAMPLES, ingest
from components.runs import retention
from components.runs.champions import best_kept
from components.runs.step import Outcome, Step, main
from contract.records.data import IngestRecord


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
    return {**figures, "bad_rows": float(record.bad_rows)}


def _reasons(record: IngestRecord) -> tuple[str, ...]:
    reasons = [f"{count:,} bad rows: {why}" for why, count in record.bad_row_reasons.items()]
    if record.label_deltas:
        reasons.append(
            f"{len(record.label_deltas)} label deltas read; they replace "
            f"{record.replaced_rows:,} rows of older data"
        )
    return tuple(reasons)


if __name__ == "__main__":
    main("ingest", work)
