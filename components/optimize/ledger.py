"""The ledger of optimisation passes as a table and as a picture."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from contract.records import LedgerRow

_KEPT, _UNDONE = "#2a6f97", "#c9c9c9"


def as_table(rows: Sequence[LedgerRow]) -> dict[str, list[Any]]:
    """Return the ledger by column, for MLflow."""
    columns = [name for name in LedgerRow.model_fields if name != "record_version"]
    return {name: [getattr(row, name) for row in rows] for name in columns}


def as_figure(rows: Sequence[LedgerRow]) -> Figure:
    """Draw operations, size and latency after each pass; a pass that was undone is grey."""
    figure = Figure(figsize=(12, 1.6 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 4, sharey=True)
    kib = [row.size_bytes / 1024 for row in rows]
    _bars(axes[0], rows, [float(row.operations) for row in rows], "operations", "{:.0f}")
    _bars(axes[1], rows, kib, "size, KiB", "{:.0f}")
    _bars(axes[2], rows, [row.latency_ms_batch_1 for row in rows], "batch 1, ms", "{:.2f}")
    _bars(axes[3], rows, [row.latency_ms_batch_32 for row in rows], "batch 32, ms", "{:.2f}")
    axes[0].invert_yaxis()
    figure.suptitle("After each pass (grey: undone)")
    return figure


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
