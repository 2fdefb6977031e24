"""Rows of the prediction log on their way to files: one a flush, merged as they become many."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contract.prediction_log.files import LogFile, server_name
from contract.prediction_log.removing import tidy_log
from contract.prediction_log.writing import merge, write_rows
from contract.schema.serving import ServeConfig

Lost = Callable[[int, Exception], None]

_HOUR_MICROS = 3_600_000_000
_TIDY_SECONDS = 60.0


@dataclass(frozen=True)
class FlushRule:
    """When rows become a file, and how many files of an hour become one.

    Attributes:
        seconds: The age at which rows are written; a killed server loses those that are younger.
        size_bytes: The size at which they are written earlier.
        merged_files: The number of an hour's small files that are merged into one.
    """

    seconds: float = 2.0
    size_bytes: int = 32 << 20
    merged_files: int = 60


TWO_SECONDS = FlushRule()


class HourlyFiles:
    """The files that one server process writes; used by one thread."""

    def __init__(self, folder: Path, serve: ServeConfig, lost: Lost, rule: FlushRule) -> None:
        """Write below `folder`; `lost` is told how many requests could not be written, and why."""
        self._folder, self._serve, self._lost, self._rule = folder, serve, lost, rule
        self._server = server_name()
        self._batches: list[pa.RecordBatch] = []
        self._size_bytes = 0
        self._due: float | None = None
        self._tidy_at = 0.0
        self._next_row = 0
        self._small: list[LogFile] = []
        self._merged: list[LogFile] = []

    def add(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Keep rows until they are flushed."""
        if self._due is None and batches:
            self._due = time.monotonic() + self._rule.seconds
        self._batches += batches
        self._size_bytes += sum(batch.nbytes for batch in batches)
        if self._size_bytes >= self._rule.size_bytes:
            self._due = 0.0

    def seconds_left(self) -> float | None:
        """Return the time until rows must be flushed, at least 0; None if there are none."""
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def flush(self) -> None:
        """Write the rows that were added; those that cannot be written are lost."""
        batches, self._batches, self._due = self._batches, [], None
        self._size_bytes = 0
        if not batches:
            return
        for hour, rows in _by_hour(pa.Table.from_batches(batches)):
            try:
                self._write(hour, rows)
            except Exception as error:  # noqa: BLE001 (a log that fails must not end its thread)
                self._lost(pc.sum(pc.equal(rows["row"], 0)).as_py(), error)

    def end_hour(self) -> None:
        """Merge the hour's files."""
        merge([*self._merged, *self._small])
        self._merged, self._small = [], []

    def tidy(self) -> None:
        """Remove what is beyond the config's limits, at most once a minute."""
        if time.monotonic() < self._tidy_at:
            return
        self._tidy_at = time.monotonic() + _TIDY_SECONDS
        tidy_log(self._folder, self._serve, datetime.now(UTC))

    def _write(self, hour: datetime, rows: pa.Table) -> None:
        if self._small and self._small[-1].hour != hour:
            self.end_hour()
        end = self._next_row + len(rows)
        file = LogFile(hour, self._server, self._next_row, end, self._folder)
        write_rows(file, rows)
        self._next_row = end
        self._small.append(file)
        if len(self._small) >= self._rule.merged_files:
            self._merged += merge(self._small)
            self._small = []


def _by_hour(table: pa.Table) -> Iterator[tuple[datetime, pa.Table]]:
    """Yield runs of rows of one hour, in their order."""
    numbers = table["time"].cast(pa.int64()).to_numpy() // _HOUR_MICROS
    starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for start, end in pairwise(starts):
        hour = datetime.fromtimestamp(int(numbers[start]) * 3600, UTC)
        yield hour, table.slice(start, end - start)
