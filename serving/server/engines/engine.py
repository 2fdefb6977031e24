"""What a model engine must offer to be served. TensorFlow's is in `tensorflow_engine`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Columns = Mapping[str, np.ndarray]
Outputs = dict[str, np.ndarray]

_LONGEST_VALUE = 60  # characters in a message


@dataclass(frozen=True)
class TensorInfo:
    """A named tensor of a signature. `shape` begins with the batch; None is any size."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """What one entry point of a model takes and gives, by the caller's names."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]


class RefusedInputError(ValueError):
    """The model cannot answer the values of a row: the caller's error, not the server's.

    `row` counts from 0 within the caller's request, `feature` is the input whose value it is; each
    is None where it is not known.
    """

    def __init__(self, words: str, row: int | None = None, feature: str | None = None) -> None:
        super().__init__(words)
        self.row, self.feature = row, feature

    def move(self, rows: int) -> None:
        """Count the row from further up, where it stands so many rows further down."""
        if self.row is not None:
            self.row += rows


class NotFiniteError(RefusedInputError):
    """An output is NaN or infinite for a row whose values are finite: JSON cannot say that."""

    def __init__(self, output: str, row: int) -> None:
        super().__init__(
            f"the model has no finite '{output}' for the values of this row; are they in the range "
            "that it was trained on?",
            row,
        )


def is_finite(array: np.ndarray) -> bool:
    """Tell whether an output has no NaN and no infinity; text has none."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def first_row_not_finite(outputs: Outputs) -> tuple[int, str] | None:
    """Return the first row with an output that is not finite, and that output's name."""
    found = [
        (int(np.isfinite(array).reshape(len(array), -1).all(axis=1).argmin()), name)
        for name, array in outputs.items()
        if not is_finite(array)
    ]
    return min(found) if found else None


def largest_value(columns: Columns, row: int) -> str:
    """Name the number of a row that is furthest from 0, as ` (largest: 'x' = 1e+32)`; or `""`."""
    found: list[tuple[float, str]] = []
    for name, column in columns.items():
        if column.dtype.kind in "fi" and column[row].size:
            values = np.ravel(column[row]).astype(np.float64)
            if (values := values[np.isfinite(values)]).size:
                found.append((float(values[np.abs(values).argmax()]), name))
    if not found:
        return ""
    value, name = max(found, key=lambda pair: abs(pair[0]))
    return f" (largest: '{name}' = {value:g})"


def shown(value: Any) -> str:
    """Return an input's value for a message: text as text, cut where it is long."""
    text = _written(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value[:_LONGEST_VALUE]))}]"
    if isinstance(value, bytes):
        return repr(value[:_LONGEST_VALUE].decode(errors="replace"))
    return f"{value:g}" if isinstance(value, float) else repr(value)


class ServedModel(Protocol):
    """A loaded model. `call` may be used from several threads at once."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Every entry point by name."""

    def call(self, signature: str, columns: Columns) -> Outputs:
        """Run one batch: arrays `[rows, ...]` by input name to arrays `[rows, ...]` by output name.

        Strings are object arrays of bytes.

        Raises:
            RefusedInputError: If the graph refuses a value of some row.
        """
