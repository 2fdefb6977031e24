"""What the demo shows of its acts: figures from records, links to MLflow, a last request."""

import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from cli.commands.operating import heads_of
from cli.demo.acts import Played
from cli.output import data, say
from cli.requests import data_plane
from cli.runs.outcome import read_result
from cli.stack.stack_file import tracking_login
from contract.layout import RunLayout
from contract.records.evaluation import BlessRecord, Metric
from contract.records.optimization import OptimizeRecord
from contract.records.stack import Stack
from contract.records.traffic import DeployRecord
from contract.tracked_run import parent_run_id

KIB = 1024


def show_act(played: Played) -> None:
    """Say how an act ended and how long it took."""
    symbol = "[green]✓[/]" if played.is_as_expected else "[bold red]✗[/]"
    say(f"{symbol} [bold]{played.outcome}[/] in {played.seconds:.0f} s")
    for reason in played.reasons:
        say(f"  {escape(reason)}")
    if played.callers is not None:
        say(
            f"  The stand-in for users sent {played.callers.requests:,} requests; "
            f"{played.callers.errors:,} failed."
        )
    say("")


def show_table(played: Sequence[Played], stack: Stack) -> None:
    """Print the three acts side by side."""
    table = Table(title="Results of the acts", title_justify="left", box=None, pad_edge=False)
    table.add_column("", style="bold")
    for number, one in enumerate(played, 1):
        table.add_column(f"Act {number} (version {one.version})")
    columns = [dict(_rows_of(one)) for one in played]
    for label in dict.fromkeys(label for column in columns for label in column):
        table.add_row(label, *(column.get(label, "") for column in columns))
    data.print(table)
    for number, one in enumerate(played, 1):
        data.print(f"MLflow run of act {number}: {run_link(one.run, stack)}")


def serve(stack: Stack, pipeline: str, request: Path) -> None:
    """At a terminal show a `curl` line and wait for Ctrl-C; elsewhere send that request."""
    url = data_plane.predict_url(stack, pipeline)
    data.print(f"curl -s {url} -d @{shlex.quote(str(request))}")
    if sys.stdin.isatty() and sys.stdout.isatty():
        with suppress(KeyboardInterrupt):
            say("Try it from another terminal. [bold]Ctrl-C[/] stops everything and cleans up.")
            while True:
                time.sleep(1)
        return
    rows = json.loads(request.read_text(encoding="utf-8"))["instances"]
    answer = data_plane.predict(stack, pipeline, rows)
    named = data_plane.named(answer.predictions[0], heads_of(pipeline, answer.version))
    data.print(f"Version {answer.version} answers: {json.dumps(named)}")


def run_link(run: RunLayout, stack: Stack) -> str:
    """Return the address of a run's parent in MLflow's pages; empty if it was not tracked."""
    from contract.clients.http import open_client

    if not (run_id := parent_run_id(run)):
        return "not tracked"
    with open_client(stack.tracking_uri) as http:
        where = "/api/2.0/mlflow/runs/get"
        answer = http.get(where, params={"run_id": run_id}, auth=tracking_login(stack))
    experiment = answer.raise_for_status().json()["run"]["info"]["experiment_id"]
    return f"{stack.tracking_uri}/#/experiments/{experiment}/runs/{run_id}"


def _rows_of(played: Played) -> Iterator[tuple[str, str]]:
    yield "Outcome", played.outcome
    yield "Took", f"{played.seconds:.0f} s"
    if (blessed := read_result(played.run, "bless")) is not None:
        for name, metric in _deciding(blessed.detail_as(BlessRecord)).items():
            yield name.capitalize(), f"{metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f})"
    if (optimized := read_result(played.run, "optimize")) is not None:
        yield from _optimization(optimized.detail_as(OptimizeRecord))
    if (tried := read_result(played.run, "canary")) is not None:
        yield from _canary(tried.detail_as(DeployRecord))
    if played.callers is not None:
        yield "Callers' requests", f"{played.callers.requests:,}"
        yield "Callers' errors", f"{played.callers.errors:,}"


def _deciding(verdict: BlessRecord) -> dict[str, Metric]:
    head = next(iter(verdict.metrics.values()), {})
    return {name: metric for name, metric in head.items() if name == "accuracy"}


def _optimization(done: OptimizeRecord) -> Iterator[tuple[str, str]]:
    first, last = done.ledger[0], done.ledger[-1]
    yield "Size", f"{first.size_bytes / KIB:,.0f} → {last.size_bytes / KIB:,.0f} KiB"
    yield "Engine", f"tensorflow → {done.engine.name}"
    trial = done.engine.trial
    served = (trial.p50_ms_batch_1, trial.p50_ms_batch_32) if trial else (0.0, 0.0)
    for rows, of_engine in zip((1, 32), served, strict=True):
        before, after = (getattr(row, f"latency_ms_batch_{rows}") for row in (first, last))
        yield (
            f"Latency, {rows} row{'s'[: rows - 1]}",
            f"{before:.2f} → {of_engine or after:.2f} ms",
        )


def _canary(tried: DeployRecord) -> Iterator[tuple[str, str]]:
    if tried.outcome == "first":
        yield "Canary", "none: the first version in service"
        return
    yield "Canary", f"{tried.canary_requests:,} requests, {tried.canary_errors:,} errors"
    for step in tried.ladder:
        yield (
            f"  {step.name}",
            f"{step.requests:,} requests: {step.decision} ({step.seconds:.0f} s)",
        )
