"""What an optimisation did, as tables for the terminal: the ledger and the engines tried."""

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from contract.records.optimization import (
        EngineMeasurement,
        LedgerRow,
        OptimizeRecord,
        ServedEngine,
    )

KEPT, UNDONE = "[green]✓[/]", "[yellow]–[/]"


def ledger_table(record: "OptimizeRecord") -> Table:
    """Return the ledger as a table for the terminal."""
    has_metric = record.ledger[0].metric is not None
    table = Table(title=f"Ledger ({record.metric}, budget {record.budget_percent:g} points)")
    table.add_column("pass")
    names = ["ops", "KiB", "zipped", "ms b1", "ms b32", "max diff", "mean diff", "relative"]
    names += [
        "agree",
        *([record.metric.split(" of ")[0]] if has_metric else []),
        "cold s",
        "peak MB",
    ]
    for name in names:
        table.add_column(name, justify="right")
    for row in record.ledger:
        table.add_row(*_cells(row, has_metric), style=None if row.is_kept else "dim")
    return table


def _cells(row: "LedgerRow", has_metric: bool) -> list[str]:
    mark = KEPT if row.is_kept else UNDONE
    metric = [_number(row.metric, ".4f")] if has_metric else []
    peak = None if row.peak_memory_bytes is None else row.peak_memory_bytes / 2**20
    return [
        f"{mark} {row.name}",
        str(row.operations),
        f"{row.size_bytes / 1024:,.1f}",
        f"{row.compressed_bytes / 1024:,.1f}",
        f"{row.latency_ms_batch_1:.2f}",
        f"{row.latency_ms_batch_32:.2f}",
        f"{row.max_difference:.2g}",
        f"{row.mean_difference:.2g}",
        f"{row.max_relative_difference:.2g}",
        _number(row.agreement_ratio, ".4f"),
        *metric,
        _number(row.cold_start_seconds, ".2f"),
        _number(peak, ".1f"),
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def engines_table(engine: "ServedEngine") -> Table:
    """Return the measurements of each engine; the chosen one is ticked."""
    table = Table(title=f"Engines ({engine.name}: {engine.reason})")
    table.add_column("engine")
    for name in ("KiB", "start s", "MB", "p50 ms b1", "p99 ms b1", "CPU-ms b1", "CPU-ms b32"):
        table.add_column(name, justify="right")
    table.add_column("max diff", justify="right")
    table.add_column("points lost", justify="right")
    table.add_column("why not")
    for row in engine.measured:
        mark = KEPT if row.name == engine.name else UNDONE
        table.add_row(f"{mark} {row.name}", *_engine_cells(row), row.reason)
    return table


def _engine_cells(row: "EngineMeasurement") -> list[str]:
    if not row.cpu_ms_batch_1:
        return [""] * 9
    return [
        f"{row.size_bytes / 1024:,.1f}",
        f"{row.start_seconds:.2f}",
        f"{row.memory_mb:.0f}",
        f"{row.p50_ms_batch_1:.3f}",
        f"{row.p99_ms_batch_1:.3f}",
        f"{row.cpu_ms_batch_1:.3f}",
        f"{row.cpu_ms_batch_32:.3f}",
        f"{row.max_difference:.2g}",
        _number(row.cost_points, ".2f"),
    ]
