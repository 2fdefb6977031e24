"""The picture of a load test: the time of an answer by percentile, and the server's four spans."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from contract.records.package import LoadReport
from contract.storage import storage_errors

_TICKS = ("50", "90", "99", "99.9", "100")


def write_picture(load: LoadReport, path: Path, title: str) -> None:
    """Draw a load test into a PNG file.

    Raises:
        StorageError, DiskFullError: If the disk refuses it.
    """
    with storage_errors(path):
        draw(load, title).savefig(path)


def draw(load: LoadReport, title: str) -> Figure:
    """Return the picture; a panel says so if nothing was measured for it."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    latency, spans = figure.subplots(1, 2)
    _draw_percentiles(latency, load)
    _draw_spans(spans, load.spans_ms)
    errors = f"{load.errors:,} errors" if load.errors else "no errors"
    counted = f"{load.requests:,} requests, {load.requests_per_second:,.0f} a second, {errors}"
    figure.suptitle(f"{title}: {counted}").set_parse_math(False)
    return figure


def _draw_percentiles(axes: Axes, load: LoadReport) -> None:
    """Draw each further nine as far from the last one: the slow answers are what is looked for."""
    axes.set(title="Time of an answer", xlabel="percentile", ylabel="ms")
    places = [_place(float(name), load.requests) for name in load.percentiles_ms]
    axes.plot(places, list(load.percentiles_ms.values()), marker="o", markersize=3)
    for name in ("50", "95", "99", "100"):
        if (taken := load.percentiles_ms.get(name)) is not None:
            at = (_place(float(name), load.requests), taken)
            axes.annotate(f"{taken:.3g}", at, (0, 5), textcoords="offset points", ha="center")
    ticks = [one for one in _TICKS if one in load.percentiles_ms]
    labels = ["slowest" if one == "100" else one for one in ticks]
    axes.set_xticks([_place(float(one), load.requests) for one in ticks], labels)
    if min(load.percentiles_ms.values(), default=0.0) > 0.0:
        axes.set_yscale("log")  # one slow answer would press the others flat
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.15)
    axes.grid(alpha=0.3)


def _place(percentile: float, requests: int) -> float:
    """Return where a percentile is drawn: the number of its nines; the slowest is one request."""
    return -math.log10(max(1.0 - percentile / 100.0, 0.5 / max(1, requests)))


def _draw_spans(axes: Axes, spans_ms: dict[str, float]) -> None:
    axes.set(title="Mean time at the server", xlabel="ms")
    if not (whole := sum(spans_ms.values())):
        axes.text(0.5, 0.5, "no spans were counted", ha="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    bars = axes.barh(list(spans_ms), list(spans_ms.values()))
    words = [f"{taken:.2g} ms, {taken / whole:.0%}" for taken in spans_ms.values()]
    axes.bar_label(bars, words, padding=3)
    axes.margins(x=0.35)
    axes.invert_yaxis()
