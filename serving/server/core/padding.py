"""What padding costs: rows of variable-length inputs are as wide as the longest of their call."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

# Up to here padding costs less than another call of the model would.
_FREE_CELLS = 4096
# Where more than this many cells are made for each value, callers pay for a neighbour's long row.
_CELLS_PER_VALUE = 1.5


@dataclass(slots=True)
class PaddedShape:
    """The size of jobs that are padded together.

    Attributes:
        rows: Of all jobs.
        widths: By variable-length input, its longest row.
        values: Cells of all jobs before they are together.
    """

    rows: int
    widths: dict[str, int]
    values: int

    @classmethod
    def of(
        cls, columns: Mapping[str, np.ndarray], rows: int, padded: Iterable[str]
    ) -> "PaddedShape":
        """Return the shape of one job; `padded` names the variable-length inputs."""
        widths = {name: columns[name].shape[1] for name in padded if name in columns}
        return cls(rows, widths, rows * sum(widths.values()))

    @property
    def cells(self) -> int:
        """Values and padding together."""
        return self.rows * sum(self.widths.values())

    def beside(self, other: "PaddedShape") -> "PaddedShape":
        """Return the shape of both together."""
        widths = {name: max(width, other.widths[name]) for name, width in self.widths.items()}
        return PaddedShape(self.rows + other.rows, widths, self.values + other.values)

    def is_worth_it(self, most_cells: int) -> bool:
        """Tell whether these jobs may share a call, at most `most_cells` large by input."""
        widest = self.rows * max(self.widths.values(), default=0)
        return widest <= most_cells and self.cells <= max(
            _FREE_CELLS, _CELLS_PER_VALUE * self.values
        )
