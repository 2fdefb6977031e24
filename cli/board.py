"""Live progress: one line per task with its state, elapsed and remaining time.

At a terminal the lines are redrawn in place. Elsewhere each change of state, and from time to time
of its note, is one printed line.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cli.output import notes

WAITING, RUNNING = "waiting", "running"
SYMBOLS = {
    "done": "[green]✓[/]",
    "failed": "[bold red]✗[/]",
    "refused": "[yellow]■[/]",
    "skipped": "[dim]–[/]",
    "retrying": "[yellow]↻[/]",
    WAITING: "[dim]·[/]",
}
NEWS_SECONDS = 10.0  # between two lines of a task whose state stays, where lines cannot be redrawn
ENDED = frozenset({"done", "failed", "refused", "skipped"})


@dataclass
class Row:
    """One task. Times are in seconds; `started` is on the monotonic clock."""

    state: str = WAITING
    started: float | None = None
    seconds: float | None = None
    note: str = ""
    said_at: float = 0.0


class Board:
    """The lines of several tasks; `stages` are in order, tasks of one stage run side by side."""

    def __init__(
        self,
        title: str,
        stages: Sequence[Sequence[str]],
        expected_seconds: Mapping[str, float] | None = None,
        console: Console = notes,
    ) -> None:
        self.title = title
        self.stages = [list(stage) for stage in stages]
        self.rows = {task: Row() for stage in stages for task in stage}
        self._expected = dict(expected_seconds or {})
        self._console = console
        self._began = time.monotonic()
        self._spinner = Spinner("dots")
        self._live = Live(
            get_renderable=self._render,
            console=console,
            refresh_per_second=5,
            transient=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        elif self.title:
            self._console.print(f"[bold]{self.title}[/]")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live.is_started:
            self._live.stop()

    def __rich__(self) -> RenderableType:
        return self._render()

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the board was made."""
        return time.monotonic() - self._began

    def update(
        self, task: str, state: str, seconds: float | None = None, note: str | None = None
    ) -> None:
        """Set a task's state; `seconds` is how long it has run, where somebody else timed it."""
        row = self.rows[task]
        is_quiet = time.monotonic() - row.said_at > NEWS_SECONDS
        has_changed, has_news = state != row.state, is_quiet and note not in (None, row.note)
        row.state = state
        if note is not None:
            row.note = note
        if seconds is not None:
            row.started = time.monotonic() - seconds
        elif state == RUNNING and (has_changed or row.started is None):
            row.started = time.monotonic()
        if state in ENDED and has_changed and row.started is not None:
            row.seconds = seconds if seconds is not None else time.monotonic() - row.started
        if (has_changed or has_news) and not self._console.is_terminal:
            self._print_change(task, row)

    def remaining_seconds(self) -> float | None:
        """Seconds until the last stage ends, from earlier runs; None where a task is unknown."""
        total = 0.0
        for stage in self.stages:
            open_tasks = [task for task in stage if self.rows[task].state not in ENDED]
            if any(task not in self._expected for task in open_tasks):
                return None
            total += max((self._left(task) for task in open_tasks), default=0.0)
        return total

    def _left(self, task: str) -> float:
        return max(0.0, self._expected[task] - self._elapsed(self.rows[task]))

    def _elapsed(self, row: Row) -> float:
        if row.seconds is not None:
            return row.seconds
        return time.monotonic() - row.started if row.started is not None else 0.0

    def _print_change(self, task: str, row: Row) -> None:
        if row.state == WAITING and not row.note:
            return
        row.said_at = time.monotonic()
        elapsed = f" in {row.seconds:.1f} s" if row.seconds is not None else ""
        expected = self._expected.get(task)
        if row.state == RUNNING and expected is not None:
            elapsed = f" (about {expected:.0f} s)"
        note = f": {escape(row.note)}" if row.note else ""
        self._console.print(f"{self.elapsed_seconds:6.1f} s  {task}: {row.state}{elapsed}{note}")

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True, style="dim")
        # The note takes what the others leave.
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim", ratio=1)
        for task, row in self.rows.items():
            symbol: RenderableType = (
                self._spinner if row.state == RUNNING else Text.from_markup(SYMBOLS[row.state])
            )
            elapsed = self._elapsed(row)
            table.add_row(
                symbol,
                task,
                f"{elapsed:.1f} s" if row.started is not None else "",
                self._left_in_words(task, row),
                escape(row.note),
            )
        outer = Table.grid(expand=True)
        outer.add_row(Text.from_markup(f"[bold]{self.title}[/]  {self._total_in_words()}"))
        outer.add_row(table)
        return outer

    def _left_in_words(self, task: str, row: Row) -> str:
        if task not in self._expected or row.state in ENDED:
            return ""
        return (
            f"~{self._left(task):.0f} s left"
            if row.state == RUNNING
            else "~" + (f"{self._expected[task]:.0f} s")
        )

    def _total_in_words(self) -> str:
        remaining = self.remaining_seconds()
        left = f", about {remaining:.0f} s left" if remaining else ""
        return f"[dim]{self.elapsed_seconds:.0f} s{left}[/]"
