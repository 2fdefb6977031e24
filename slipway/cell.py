"""A board with a progress bar, drawn in place: in a notebook's cell, or at a terminal."""

from rich.console import Console, ConsoleRenderable
from rich.jupyter import JupyterMixin
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from cli.board import ENDED, Board
from slipway.work import Work

_NOTEBOOK_SECONDS = 1.0
_BAR_WIDTH = 60


class Progress(JupyterMixin):
    """A board below a bar of the steps that have ended."""

    def __init__(self, board: Board) -> None:
        self._board = board

    @property
    def ended(self) -> int:
        """How many steps have ended."""
        return sum(row.state in ENDED for row in self._board.rows.values())

    def __rich__(self) -> ConsoleRenderable:
        table = Table.grid(expand=True)
        table.add_row(ProgressBar(len(self._board.rows), self.ended, width=_BAR_WIDTH))
        table.add_row(self._board)
        return table


def show_until_ended(work: Work) -> None:
    """Draw the work's board until it ends; where nothing can be drawn in place, only wait.

    An interrupt ends the drawing, and not the work.
    """
    progress, console = Progress(work.board), Console(stderr=True)
    if Console().is_jupyter:
        _in_notebook(work, progress)
    elif console.is_terminal:
        with Live(progress, console=console, refresh_per_second=5):
            work.wait()
    else:
        work.wait()


def _in_notebook(work: Work, progress: Progress) -> None:
    from IPython.display import display

    handle = display(progress, display_id=True)
    while work.is_running:
        work.wait(_NOTEBOOK_SECONDS)
        handle.update(progress)
