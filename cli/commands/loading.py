"""Commands that put load on what is in service: loadtest, replay."""

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live

from cli.options import JsonOption, NameArgument, VersionOption
from cli.output import data, notes, print_json, say
from contract.errors import EXIT_UNEXPECTED

if TYPE_CHECKING:
    from components.quality.loadtest import Load
    from contract.records.package import LoadReport

CONCURRENCY_OF_REPLAY = 64  # enough that a slow answer does not hold up the ones that are due

RowsOption = Annotated[
    Path | None,
    typer.Option("--file", help="JSON rows to send; default: the last run's test split."),
]


def loadtest(
    name: NameArgument,
    concurrency: Annotated[int, typer.Option(min=1, help="Callers at once.")] = 16,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long.")] = 10.0,
    file: RowsOption = None,
    version: VersionOption = None,
    is_json: JsonOption = False,
) -> None:
    """Send requests as fast as concurrent callers can; print rate, latency and errors.

    Exit code 1 if a request failed.

    [bold]Examples[/]

    [cyan]$ slipway loadtest digits --concurrency 32 --seconds 20[/]

    [cyan]$ slipway loadtest digits --version 3 --file rows.json --json[/]
    """
    load = replace(_load(name, file, version, seconds), concurrency=concurrency)
    report = _send(load)
    _show(report, is_json)
    if report.errors:
        raise typer.Exit(EXIT_UNEXPECTED)


def replay(
    name: NameArgument,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second.")],
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Duration; default: until Ctrl-C.")
    ] = None,
    file: RowsOption = None,
    is_json: JsonOption = False,
) -> None:
    """Send test rows at a steady rate, to simulate users.

    A canary is judged on requests; this sends them where there are no callers yet.

    [bold]Examples[/]

    [cyan]$ slipway replay digits --rate 200[/]

    [cyan]$ slipway replay digits --rate 50 --seconds 60 --file rows.json[/]
    """
    load = _load(name, file, None, seconds or float("inf"))
    load = replace(load, concurrency=CONCURRENCY_OF_REPLAY, rate=rate)
    say("Simulated users: these are test rows, sent repeatedly.")
    _show(_send(load), is_json)


def _load(name: str, file: Path | None, version: int | None, seconds: float) -> "Load":
    """Return the load on the versions in service, or on one version."""
    from cli.requests import data_plane
    from cli.requests.rows import rows_from_file, rows_of_last_run
    from cli.stack.stack_file import artifact_root, require_stack
    from components.quality.loadtest import Load
    from contract.layout import PipelineLayout

    stack = require_stack()
    if file is not None:
        rows = rows_from_file(file)
    else:
        rows = rows_of_last_run(PipelineLayout(artifact_root(), name))
    return Load(
        url=data_plane.predict_url(stack, name, version),
        rows=rows,
        seconds=seconds,
        headers=data_plane.caller_headers(stack),
        certificate_file=data_plane.certificate(stack),
    )


def _send(load: "Load") -> "LoadReport":
    """Send the load, show how it goes, and return the report; an interrupt ends it early."""
    with Live(console=notes, refresh_per_second=4, transient=True) as live:
        return asyncio.run(_send_until_interrupted(load, live))


async def _send_until_interrupted(load: "Load", live: Live) -> "LoadReport":
    from components.quality.loadtest import send_load

    reports: list[LoadReport] = []

    def progress(report: "LoadReport") -> None:
        reports[:] = [report]
        live.update(in_words(report))

    sending = asyncio.create_task(send_load(load, progress))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, sending.cancel)
    try:
        return await sending
    except asyncio.CancelledError:
        if not reports:
            raise KeyboardInterrupt from None
        return reports[0]


def in_words(report: "LoadReport") -> str:
    """Return a report as one line."""
    return (
        f"{report.requests:,} requests in {report.seconds:.1f} s "
        f"({report.requests_per_second:,.0f} a second), {report.errors:,} errors; latency p50 "
        f"{report.p50_ms:.1f}, p95 {report.p95_ms:.1f}, p99 {report.p99_ms:.1f} ms"
    )


def _show(report: "LoadReport", is_json: bool) -> None:
    if is_json:
        print_json(report.model_dump(mode="json"))
    else:
        data.print(in_words(report))
