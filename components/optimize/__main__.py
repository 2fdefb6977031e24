"""`python -m components.optimize`: the blessed SavedModel, optimised."""

from components.step import Outcome, Step, main
from contract.records import BlessRecord, IngestRecord, LedgerRow, OptimizeRecord

MODEL = "model"
LEDGER = "ledger.json"
_SAMPLE_ROWS = 256


def work(step: Step) -> Outcome:
    """Optimise the candidate of `bless`, held to its answers on raw rows of the eval part."""
    from components.optimize.ledger import as_figure, as_table
    from components.optimize.optimize import optimize
    from components.optimize.samples import read_samples

    blessed = step.upstream("bless", BlessRecord)
    ingested = step.upstream("ingest", IngestRecord)
    shards = [step.run.step("ingest") / shard for shard in ingested.shards["eval"]]
    samples = read_samples(shards, step.config, _SAMPLE_ROWS)
    candidate = step.run.step("bless") / blessed.candidate
    ledger = optimize(candidate, samples, step.config.optimize, step.output / MODEL)
    record = OptimizeRecord(model=MODEL, ledger=ledger)
    record.write(step.output / LEDGER)
    step.tracker.log_table(as_table(ledger), LEDGER)
    step.tracker.log_figure(as_figure(ledger), "ledger.png")
    first, last = ledger[0], [row for row in ledger if row.is_kept][-1]
    return Outcome(
        record,
        artifacts={"model": MODEL, "ledger": LEDGER},
        metrics={
            "size_bytes_before": first.size_bytes,
            "size_bytes_after": last.size_bytes,
            "latency_ms_batch_1_before": first.latency_ms_batch_1,
            "latency_ms_batch_1_after": last.latency_ms_batch_1,
            "latency_ms_batch_32_before": first.latency_ms_batch_32,
            "latency_ms_batch_32_after": last.latency_ms_batch_32,
            "max_relative_difference": last.max_relative_difference,
        },
        reasons=_reasons(ledger),
    )


def _reasons(ledger: tuple[LedgerRow, ...]) -> tuple[str, ...]:
    undone = [f"{row.name} {row.reason}" for row in ledger if not row.is_kept]
    if not any(row.is_kept for row in ledger[1:]):
        undone.append("no pass was kept: the original goes on as it was")
    return tuple(undone)


if __name__ == "__main__":
    main("optimize", work)
