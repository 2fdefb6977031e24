"""Finds the row and the input that a model cannot answer, when a call of it has failed.

A control shows whose fault a failure is: a row that the model has answered before. If the model
still answers it, the values of the failing row are the cause, which is the caller's error (400). If
it does not, the model is broken (500). The input is found by replacing values of the row with those
of the control, half of the inputs at a time.
"""

import logging
from collections.abc import Callable

import numpy as np

from contract.model_io import DEFAULT_SIGNATURE
from serving.server.engines.engine import (
    Columns,
    NotFiniteError,
    Outputs,
    RefusedInputError,
    first_row_not_finite,
)

log = logging.getLogger("slipway")

ModelCall = Callable[[str, Columns], Outputs]
Parser = Callable[[np.ndarray], Columns]

_MOST_CALLS = 64  # of the model, to search the rows of one failed batch
_LONGEST_WORDS = 300


class OutputShapeError(ValueError):
    """An output has not one entry for each row: the model's fault, whatever the values."""


class Control:
    """A row that the model answers, and what else it takes to tell a bad row from a bad model."""

    def __init__(self, call: ModelCall, row: Columns | None, parser: Parser | None = None) -> None:
        """Search by calls of a model.

        Args:
            call: Calls it with a signature's name and columns.
            row: One row for `serving_default` that it answers; None if none is known.
            parser: From serialized tf.Examples to columns of `serving_default`.
        """
        self.call, self.row, self.parser = call, row, parser

    def is_answered(self) -> bool | None:
        """Tell whether the model answers the control row now; None if there is no such row."""
        if self.row is None:
            return None
        return _is_answered(self.call, DEFAULT_SIGNATURE, self.row)


class Search:
    """The search through one failed batch. It calls the model at most 64 times."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._calls_left = _MOST_CALLS

    def is_model_broken(self) -> bool:
        """Tell whether the model fails on the control row, too."""
        return self._control.is_answered() is False

    def explained(self, signature: str, columns: Columns, error: Exception) -> Exception:
        """Return what a request gets whose own call has failed, or gave no finite answer.

        A RefusedInputError, with its row and input as far as they are found, or the error itself
        where the model is to blame.

        Args:
            signature: What was called.
            columns: The request's rows alone.
            error: How their call failed.
        """
        if isinstance(error, OutputShapeError):
            return error
        if not isinstance(error, RefusedInputError) and not self._control.is_answered():
            return error
        if (row := self._row(signature, columns, error)) is None:
            return RefusedInputError(_words(error))
        alone = _rows(columns, row, 1)
        if (found := self._failure(signature, alone, error)) is None:
            return error  # it came of the rows beside it, or by chance
        if not isinstance(error, RefusedInputError):
            log.warning("the model fails on the values of a row: %s", error)
        found.row, found.feature = row, self._feature(signature, alone)
        return found

    def _row(self, signature: str, columns: Columns, error: Exception) -> int | None:
        """Return the first row that cannot be answered: with all before it, the model answers."""
        if isinstance(error, NotFiniteError):
            return error.row
        rows = len(next(iter(columns.values())))
        return self._first(rows, lambda end: (signature, _rows(columns, 0, end)))

    def _failure(
        self, signature: str, alone: Columns, error: Exception
    ) -> RefusedInputError | None:
        """Return how one row fails alone, in words that count from it; None if it does not."""
        if isinstance(error, NotFiniteError):
            return error
        if self._calls_left > 0:
            self._calls_left -= 1
            try:
                self._control.call(signature, alone)
            except Exception as again:  # noqa: BLE001 (whatever the model raises)
                return RefusedInputError(_words(again))
            return None
        return RefusedInputError(_words(error))

    def _feature(self, signature: str, row: Columns) -> str | None:
        """Return the input whose value the model cannot answer beside those of the others."""
        control = self._control.row
        if signature != DEFAULT_SIGNATURE:
            if self._control.parser is None:
                return None
            try:
                row = self._control.parser(row["examples"])
            except RefusedInputError as error:
                return error.feature
        if len(row) == 1:
            return next(iter(row))
        if control is None or control.keys() != row.keys() or not self._control.is_answered():
            return None
        names = list(row)

        def mixed(end: int) -> tuple[str, Columns]:
            own = names[:end]
            return DEFAULT_SIGNATURE, {n: row[n] if n in own else control[n] for n in names}

        found = self._first(len(names), mixed)
        return None if found is None else names[found]

    def _first(self, count: int, call_of: Callable[[int], tuple[str, Columns]]) -> int | None:
        """Return which of `count` things, added one by one, makes the model fail; all do together.

        None if the calls that may be spent are too few.
        """
        if (count - 1).bit_length() > self._calls_left:
            return None
        good, bad = 0, count
        while bad - good > 1:
            middle = (good + bad) // 2
            self._calls_left -= 1
            if _is_answered(self._control.call, *call_of(middle)):
                good = middle
            else:
                bad = middle
        return good


def control_of(call: ModelCall, candidates: list[Columns], parser: Parser | None = None) -> Control:
    """Return the control with the first of these rows that the model answers, if it does any."""
    answered = (row for row in candidates if _is_answered(call, DEFAULT_SIGNATURE, row))
    return Control(call, next(answered, None), parser)


def _is_answered(call: ModelCall, signature: str, columns: Columns) -> bool:
    """Tell whether the model answers all rows, with finite numbers."""
    try:
        return first_row_not_finite(call(signature, columns)) is None
    except Exception:  # noqa: BLE001 (whatever the model raises, it is no answer)
        return False


def _rows(columns: Columns, start: int, count: int) -> Columns:
    return {name: array[start : start + count] for name, array in columns.items()}


def _words(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:_LONGEST_WORDS]
