"""The numbers of one split, held until it is known into which bins they are counted."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.generic]

_IN_MEMORY_BYTES = 64 << 20  # more goes to a file without a name, which ends with the process


class HeldNumbers:
    """Arrays by column, in the order in which they came.

    Args:
        folder: Where to put what is too much for memory.
    """

    def __init__(self, folder: Path, in_memory_bytes: int = _IN_MEMORY_BYTES) -> None:
        self._file = tempfile.SpooledTemporaryFile(in_memory_bytes, dir=str(folder))  # noqa: SIM115
        self._places: dict[str, list[tuple[int, int, np.dtype[np.generic]]]] = defaultdict(list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, column: str, numbers: Numbers) -> None:
        """Hold some more numbers of a column."""
        self._file.seek(0, 2)
        place = (self._file.tell(), numbers.nbytes, numbers.dtype)
        self._file.write(np.ascontiguousarray(numbers).data)
        self._places[column].append(place)

    def of(self, column: str) -> Iterator[Numbers]:
        """Yield the arrays of a column."""
        for start, size, dtype in self._places.get(column, ()):
            self._file.seek(start)
            yield np.frombuffer(self._file.read(size), dtype)
