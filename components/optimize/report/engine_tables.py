"""The trials of engines as a table and as a picture."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.optimize.report.ledger import interval_in_words
from components.runs.tracking import Tracker
from contract.records.optimization import EngineMeasurement, ServedEngine

_CHOSEN, _ELIGIBLE, _LEFT_OUT = "#2a6f97", "#8fb8cf", "#c9c9c9"


def as_table(engine: ServedEngine) -> dict[str, list[Any]]:
    """Return the trials by column, for MLflow; the one chosen says so."""
    columns = [name for name in EngineMeasurement.model_fields if name != "record_version"]
    table: dict[str, list[Any]] = {
        name: [_FORMS.get(name, _as_it_is)(getattr(row, name)) for row in engine.measured]
        for name in columns
    }
    return {"is_chosen": [row.name == engine.name for row in engine.measured], **table}


def log_trials(engine: ServedEngine, tracker: Tracker) -> None:
    """Upload the trials' table and picture, if there were any."""
    if engine.measured:
        tracker.log_table(as_table(engine), "engines.json")
        tracker.log_figure(as_figure(engine), "engines.png")


def _as_it_is(value: Any) -> Any:
    return value


_FORMS: dict[str, Callable[[Any], Any]] = {
    "metric_difference": interval_in_words,
    "float_layers": ", ".join,
    "machine": lambda machine: "" if machine is None else machine.cpu,
}


def as_figure(engine: ServedEngine) -> Figure:
    """Draw speed, memory and difference of all that could be tried (grey: left out)."""
    rows = [row for row in engine.measured if row.cpu_ms_batch_1]
    figure = Figure(figsize=(12, 1.6 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 4, sharey=True)
    colours = [_colour(row, engine.name) for row in rows]
    panels = (
        ("batch 1, CPU-ms", [row.cpu_ms_batch_1 for row in rows], "{:.3g}"),
        ("batch 32, CPU-ms", [row.cpu_ms_batch_32 for row in rows], "{:.3g}"),
        ("memory, MB", [row.memory_mb for row in rows], "{:.0f}"),
        ("classes changed, %", [100 * (1 - row.agreement_ratio) for row in rows], "{:.2g}"),
    )
    for axis, (title, values, form) in zip(axes, panels, strict=True):
        _bars(axis, values, colours, form)
        axis.set_title(title)
    axes[0].set_yticks(range(len(rows)), [row.name for row in rows])
    axes[0].invert_yaxis()
    figure.suptitle(f"{engine.name}: {engine.reason}")
    return figure


def _colour(row: EngineMeasurement, chosen: str) -> str:
    if row.name == chosen:
        return _CHOSEN
    return _ELIGIBLE if row.is_eligible else _LEFT_OUT


def _bars(axis: Axes, values: Sequence[float], colours: Sequence[str], form: str) -> None:
    bars = axis.barh(range(len(values)), values, color=colours)
    axis.bar_label(bars, [form.format(value) for value in values], padding=3)
    axis.margins(x=0.25)
    axis.spines[["top", "right"]].set_visible(False)
