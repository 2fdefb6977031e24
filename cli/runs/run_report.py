"""One run as a person reads it: how it ended, its steps, figures, optimisation and canary."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from cli.runs.ledger_tables import engines_table, ledger_table
from cli.runs.outcome import read_result
from cli.runs.progress import summary_of
from contract.layout import RunLayout
from contract.records.evaluation import BlessRecord, Metric
from contract.records.optimization import OptimizeRecord
from contract.records.traffic import DeployRecord
from contract.steps import STEPS


def report_of(run: RunLayout, standing: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield the parts of a run's report.

    Args:
        run: Where its records lie.
        standing: What `standing_of` says of it.
    """
    outcome = f"[bold]{escape(standing['outcome'])}[/]"
    if standing["failed_step"]:
        outcome += f" in '{standing['failed_step']}'"
    if standing["version"]:
        outcome += f", version {standing['version']}"
    yield f"[bold]{run.pipeline}[/], run {escape(run.run_id)}: {outcome}"
    yield from (f"  {escape(reason)}" for reason in standing["reasons"])
    yield _steps(run)
    if (blessed := read_result(run, "bless")) is not None:
        yield _metrics(blessed.detail_as(BlessRecord))
    if (optimized := read_result(run, "optimize")) is not None:
        record = optimized.detail_as(OptimizeRecord)
        yield ledger_table(record)
        if record.engine.measured:
            yield engines_table(record.engine)
    if (tried := read_result(run, "canary")) is not None:
        yield _canary(tried.detail_as(DeployRecord))


def metrics_of(run: RunLayout) -> dict[tuple[str, str], tuple[Metric, Metric | None]]:
    """Return what `bless` measured on the test split, by head and metric.

    Each metric is the candidate's, and, where one was in service, the champion's.
    """
    result = read_result(run, "bless")
    if result is None:
        return {}
    record = result.detail_as(BlessRecord)
    return {
        (head, name): (metric, record.champion_metrics.get(head, {}).get(name))
        for head, metrics in record.metrics.items()
        for name, metric in metrics.items()
    }


def _steps(run: RunLayout) -> Table:
    table = Table("Step", "Seconds", "What came of it", title="Steps")
    for step in STEPS:
        if (result := read_result(run, step)) is not None:
            table.add_row(step, f"{result.seconds:.1f}", escape(summary_of(run, step) or ""))
    return table


def _metrics(record: BlessRecord) -> Table:
    table = Table("Head", "Metric", "Value", "Low", "High", title="Metrics on the test split")
    for head, metrics in record.metrics.items():
        for name, metric in metrics.items():
            figures = (f"{figure:.4g}" for figure in (metric.value, metric.low, metric.high))
            table.add_row(escape(head), escape(name), *figures)
    return table


def _canary(tried: DeployRecord) -> Table:
    title = f"Canary: {tried.outcome}, {tried.canary_requests:,} requests"
    table = Table("Rung", "Requests", "Errors", "Decision", "Seconds", "Why", title=title)
    for rung in tried.ladder:
        counts = (f"{rung.requests:,}", f"{rung.errors:,}")
        table.add_row(rung.name, *counts, rung.decision, f"{rung.seconds:.0f}", escape(rung.reason))
    return table
