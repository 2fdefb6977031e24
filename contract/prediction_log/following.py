"""Following a prediction log while servers write it: what was added since the last look."""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import pyarrow as pa

from contract.errors import DataError
from contract.prediction_log.files import LogFile, complete_files, hour_of
from contract.prediction_log.reading import read_file

log = logging.getLogger("slipway")

# A file of an earlier hour may come late: rows wait for some seconds, and merged files replace
# small ones. Older hours are not listed again.
_LATE = timedelta(hours=1)


def newest_rows(folder: Path, count: int) -> dict[str, int]:
    """Return offsets with which a tail begins some rows before the end, by server process.

    Args:
        folder: Of the version's log.
        count: The rows of each process that has written in this hour or the last one.
    """
    files = complete_files(folder, hour_of(datetime.now(UTC)) - _LATE)
    ends = {server: max(f.end for f in own) for server, own in _by_server(files)}
    return {server: max(0, end - count) for server, end in ends.items()}


def _by_server(files: Sequence[LogFile]) -> Iterator[tuple[str, Iterator[LogFile]]]:
    return groupby(sorted(files, key=attrgetter("server", "first")), key=attrgetter("server"))


class LogTail:
    """Reads the rows that were added to a version's log since the last look.

    How far it has read is known by server process, so that merged files are not read twice.
    """

    def __init__(
        self, folder: Path, since: datetime, offsets: dict[str, int] | None = None
    ) -> None:
        """Start at the given rows, by server process, or behind all that is there now.

        Args:
            folder: Of the version's log.
            since: Hours that ended before are not looked at.
            offsets: What `offsets` was when another tail stopped.
        """
        self._folder, self._since = folder, hour_of(since) - _LATE
        self.offsets = dict(offsets or {})
        if offsets is None:
            self.offsets = {
                server: max(file.end for file in own)
                for server, own in _by_server(complete_files(folder, self._since))
            }

    def read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the rows added since, with these columns, as `read_file` takes them.

        A file that is broken is passed over, with a warning.
        """
        for _, own in _by_server(complete_files(self._folder, self._since)):
            for file in own:
                if file.end > (start := self.offsets.get(file.server, 0)):
                    if (table := self._rows(file, columns)) is None:
                        break  # merged a moment ago: the next look finds the rows
                    self.offsets[file.server] = file.end
                    yield table.slice(max(0, start - file.first))
        self._since = max(self._since, hour_of(datetime.now(UTC)) - 2 * _LATE)

    def _rows(self, file: LogFile, columns: Sequence[str]) -> pa.Table | None:
        try:
            return read_file(file, columns)
        except DataError as error:
            log.warning("%s", error)
            self.offsets[file.server] = file.end
            return None
