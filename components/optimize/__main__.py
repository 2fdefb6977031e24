"""`python -m components.optimize`: the blessed SavedModel, optimised."""

from components.runs.step import Outcome, Step, main
from contract.records.data import IngestRecord
from contract.records.evaluation import BlessRecord
from contract.records.optimization import OptimizeRecord


def work(step: Step) -> Outcome:
    """Optimise the candidate of `bless`, held to its answers on raw rows of the eval split."""
    from components.optimize.engines.engines import add_engines
    from components.optimize.optimize import optimize
    from components.optimize.report.engine_tables import log_trials
    from components.optimize.report.ledger import LEDGER, log_ledger
    from components.optimize.report.pictures import pictures_of
    from components.optimize.rows.samples import read_data

    blessed = step.upstream("bless", BlessRecord)
    ingested = step.upstream("ingest", IngestRecord)
    shards = [step.run.step("ingest") / shard for shard in ingested.shards["eval"]]
    data = read_data(shards, step.config)
    candidate = step.run.step("bless") / blessed.candidate
    optimized = optimize(candidate, data, step.config.optimize, step.output)
    settings, skew_tolerance = step.config.optimize.engines, step.config.package.skew_tolerance
    record = add_engines(optimized.record, data, settings, step.output, skew_tolerance)
    log_trials(record.engine, step.tracker)
    record.write(step.output / LEDGER)
    log_ledger(record.ledger, pictures_of(optimized), step.tracker)
    models = {"model": record.model, "float_model": record.float_model}
    return Outcome(
        record,
        artifacts={
            "ledger": LEDGER,
            **{name: path for name, path in models.items() if path},
            **record.engine.artifacts,
        },
        metrics=_figures(record),
        reasons=_reasons(record),
    )


def _figures(record: OptimizeRecord) -> dict[str, float]:
    """Return what original, result and chosen engine cost, and how far apart answers are."""
    first, last = record.ledger[0], record.ledger[-1]
    figures = {
        f"{name}_{when}": getattr(row, name)
        for when, row in (("before", first), ("after", last))
        for name in (
            "size_bytes",
            "latency_ms_batch_1",
            "latency_ms_batch_32",
            "cold_start_seconds",
            "peak_memory_bytes",
            "metric",
        )
    }
    figures["max_relative_difference"] = last.max_relative_difference
    figures["agreement_ratio"] = last.agreement_ratio
    if (trial := record.engine.trial) is not None:
        names = ("p50_ms_batch_1", "p50_ms_batch_32", "cpu_ms_batch_1", "cpu_ms_batch_32")
        figures |= {f"served_{name}": getattr(trial, name) for name in (*names, "memory_mb")}
    return {name: float(value) for name, value in figures.items() if value is not None}


def _reasons(record: OptimizeRecord) -> tuple[str, ...]:
    undone = [f"{row.name} {row.reason}" for row in record.ledger if not row.is_kept]
    whole = f"the whole: {record.ledger[-1].reason}"
    return (whole, f"engine {record.engine.name}: {record.engine.reason}", *undone)


if __name__ == "__main__":
    main("optimize", work)
