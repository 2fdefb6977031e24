"""The ledger of optimisation passes as a table and as a picture."""

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.runs.tracking import Tracker
from contract.records.optimization import LedgerRow

LEDGER = "ledger.json"
_KEPT, _UNDONE = "#2a6f97", "#c9c9c9"


def as_table(rows: Sequence[LedgerRow]) -> dict[str, list[Any]]:
    """Return the ledger by column, for MLflow; intervals and lists become text or numbers."""
    columns = [name for name in LedgerRow.model_fields if name not in ("record_version", *_WIDE)]
    table: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in columns}
    for name, form in _WIDE.items():
        table[name] = [form(getattr(row, name)) for row in rows]
    return table


def log_ledger(
    rows: Sequence[LedgerRow], figures: Iterable[tuple[str, Figure]], tracker: Tracker
) -> None:
    """Upload the ledger as a table, and pictures under their names."""
    tracker.log_table(as_table(rows), LEDGER)
    for name, figure in figures:
        tracker.log_figure(figure, name)


def _changes_in_words(changes: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count:+d}" for kind, count in changes.items())


def interval_in_words(difference: Any) -> str:
    """Return a difference with its interval; empty for None."""
    if difference is None:
        return ""
    return f"{difference.value:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})"


_WIDE = {
    "operation_changes": _changes_in_words,
    "metric_difference": interval_in_words,
    "float_layers": ", ".join,
}


def as_figure(rows: Sequence[LedgerRow]) -> Figure:
    """Draw operations, size, latency and difference of each pass; one undone is grey."""
    figure = Figure(figsize=(15, 1.6 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 5, sharey=True)
    kib = [row.size_bytes / 1024 for row in rows]
    _bars(axes[0], rows, [float(row.operations) for row in rows], "operations", "{:.0f}")
    _bars(axes[1], rows, kib, "size, KiB", "{:.0f}")
    _bars(axes[2], rows, [row.latency_ms_batch_1 for row in rows], "batch 1, ms", "{:.2f}")
    _bars(axes[3], rows, [row.latency_ms_batch_32 for row in rows], "batch 32, ms", "{:.2f}")
    _bars(axes[4], rows, [_drawable(row) for row in rows], "relative difference", "{:.1g}")
    axes[0].invert_yaxis()
    figure.suptitle("After each pass (grey: undone or left out)")
    return figure


def _drawable(row: LedgerRow) -> float:
    difference = row.max_relative_difference
    return difference if difference < float("inf") else 0.0


def _bars(
    axes: Axes, rows: Sequence[LedgerRow], values: Sequence[float], title: str, form: str
) -> None:
    colours = [_KEPT if row.is_kept else _UNDONE for row in rows]
    bars = axes.barh(range(len(rows)), values, color=colours)
    axes.bar_label(bars, [form.format(value) for value in values], padding=3)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_title(title)
    axes.margins(x=0.25)
    axes.spines[["top", "right"]].set_visible(False)
