"""A run that continues while the caller does something else, and the board that shows it."""

import threading
from collections.abc import Callable

from rich.console import Console

from cli.board import Board
from cli.runs.outcome import Ending

_SHUTDOWN_SECONDS = 30.0


class Cancelled(KeyboardInterrupt):
    """The caller has ended the run."""


class WorkBoard(Board):
    """A board that prints nothing; an update after `cancel` ends the work that makes it."""

    is_cancelled = False

    def update(
        self, task: str, state: str, seconds: float | None = None, note: str | None = None
    ) -> None:
        """Set a task's state."""
        if self.is_cancelled:
            self.is_cancelled = False  # once: what ends the work may tell of it
            raise Cancelled
        super().update(task, state, seconds, note)


def quiet() -> Console:
    """Return a console that shows nothing."""
    return Console(quiet=True)


class Work:
    """A function that works on a board, in a thread; the thread ends with this process."""

    def __init__(self, board: WorkBoard, do: Callable[[WorkBoard], Ending]) -> None:
        self.board = board
        self._ending: Ending | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(do,), daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._thread.is_alive()

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Wait until it has ended, or for so long."""
        self._thread.join(timeout_seconds)

    def result(self) -> Ending:
        """Wait for the end and return it, or raise what the work raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._ending is not None
        return self._ending

    def cancel(self) -> None:
        """End the work, and return when it has ended."""
        self.board.is_cancelled = True
        self._thread.join(_SHUTDOWN_SECONDS)

    def _run(self, do: Callable[[WorkBoard], Ending]) -> None:
        try:
            self._ending = do(self.board)
        except BaseException as error:  # noqa: BLE001 (raised again where the result is asked for)
            self._error = error
