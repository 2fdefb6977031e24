"""A rollout as lines and tables: weights, counts, every test against its bounds, time to go."""

from collections.abc import Iterator
from datetime import datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from cli.runs.progress import number
from contract.records.rollout import Rollout, RolloutTest

_STYLES = {
    "running": "bold cyan",
    "paused": "bold yellow",
    "rolled back": "bold red",
    "passed": "bold green",
    "promoted": "bold green",
}
_UNITS = {"seconds": " s", "requests": " requests"}


def view(rollout: Rollout, now: datetime) -> RenderableType:
    """Return the whole picture of a rollout."""
    return Group(*_parts(rollout, now))


def _parts(rollout: Rollout, now: datetime) -> Iterator[RenderableType]:
    yield headline(rollout)
    if rollout.hold is not None:
        yield f"[yellow]{escape(paused_in_words(rollout))}[/]"
    if rollout.is_silent(now):
        silent = (now - rollout.looked_at).total_seconds()
        yield (
            f"[yellow]its controller has not looked for {silent:,.0f} s; a retry of its run "
            "continues the trial[/]"
        )
    yield _arms(rollout)
    yield _tests(rollout)
    yield escape(rollout.reason)
    if not rollout.is_over:
        yield escape(rollout.time_to_go)
    for problem in rollout.problems:
        yield f"[yellow]{escape(problem)}[/]"


def headline(rollout: Rollout) -> str:
    """Return who is on trial, how far, and in which state, as one line of markup."""
    style = _STYLES.get(rollout.state, "bold")
    where = f"at {escape(rollout.phase)} (way: {rollout.way})"
    return (
        f"[bold]{rollout.pipeline}[/]: version {rollout.version} against version "
        f"{rollout.champion} {where}: [{style}]{rollout.state}[/]  "
        f"[dim]({escape(rollout.author)})[/]"
    )


def paused_in_words(rollout: Rollout) -> str:
    """Say who paused the trial, since when, why, and how it continues."""
    hold = rollout.hold
    if hold is None:
        return ""
    since = f" since {hold.since.astimezone():%Y-%m-%d %H:%M:%S}" if hold.since else ""
    reason = f": {hold.reason}" if hold.reason else ""
    return (
        f"paused by {hold.author or 'somebody'}{since}{reason}; nothing passes, failing evidence "
        f"still rolls back. Continue: slipway rollout {rollout.pipeline} --resume"
    )


def _arms(rollout: Rollout) -> Table:
    table = _table("Arm", "Version", "Weight", "Requests", "5xx", "4xx", "Under way", "p95")
    for name, arm in (("canary", rollout.canary), ("stable", rollout.stable)):
        table.add_row(
            name,
            str(arm.version),
            f"{arm.weight_percent} %",
            *(f"{count:,}" for count in (arm.requests, arm.errors, arm.client_errors, arm.active)),
            f"{arm.p95_ms:.1f} ms" if arm.timed else "",
        )
    return table


def _tests(rollout: Rollout) -> Table:
    table = _table(
        "Test", "n canary", "n stable", "Against", "fails at", "For", "passes at", "Missing"
    )
    for test in rollout.tests:
        table.add_row(
            test.name,
            f"{test.canary_events:,}" if test.canary_events else "",
            f"{test.stable_events:,}" if test.stable_events else "",
            *(_amount(test, value) for value in _sides(test)),
            _missing(test),
        )
    return table


def _sides(test: RolloutTest) -> tuple[float | None, ...]:
    return test.against, test.fails_at, test.in_favour, test.passes_at


def _amount(test: RolloutTest, value: float | None) -> str:
    return "" if value is None else f"{number(value)}{_UNITS.get(test.unit, '')}"


def _missing(test: RolloutTest) -> str:
    if test.has_agreed is None:
        return ""
    if test.has_agreed:
        return "[green]agrees[/]"
    return f"{test.missing:,} requests" if test.missing else "open"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="left" if column in ("Arm", "Test") else "right")
    return table
