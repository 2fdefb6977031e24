"""Where the files of a prediction log lie, and which of them hold the rows.

`<folder>/date=2026-11-29/hour=15/<server>.<first>-<end>.parquet` holds the rows `first` to
`end - 1` of those that one server process has written, counted from 0. The hour is that of the
rows' time, in UTC. A file is complete as soon as it has its name, and is never changed. Small
files are merged: until they are removed, their rows are in two files, and the one with fewer of
them does not count.
"""

import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from pathlib import Path

TEMPORARY_PREFIX = ".writing-"
_HOUR = timedelta(hours=1)
_DIGITS = 12
_DATE, _HOUR_NAME = re.compile(r"date=(\d{4}-\d\d-\d\d)"), re.compile(r"hour=(\d\d)")
_NAME = re.compile(r"(?P<server>[^.].*)\.(?P<first>\d{12})-(?P<end>\d{12})\.parquet")


@dataclass(frozen=True, order=True)
class LogFile:
    """One complete file. `first` and `end` count the rows of its server process."""

    hour: datetime
    server: str
    first: int
    end: int
    folder: Path

    @property
    def path(self) -> Path:
        name = f"{self.server}.{self.first:0{_DIGITS}d}-{self.end:0{_DIGITS}d}.parquet"
        return self.folder / hour_folder(self.hour) / name


def hour_folder(hour: datetime) -> str:
    """Return the folder of an hour, named as Hive names partitions."""
    return f"date={hour:%Y-%m-%d}/hour={hour:%H}"


def hour_of(moment: datetime) -> datetime:
    """Return the beginning of the hour in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def server_name() -> str:
    """Return a name that no other process has had: pods reuse process ids, hosts restart."""
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())
    return f"{host}-{os.getpid()}-{time.time_ns() // 1000:x}"


def complete_files(
    folder: Path, since: datetime | None = None, until: datetime | None = None
) -> list[LogFile]:
    """Return the files that hold rows of the hours from `since` to `until`, each row once.

    In the order of hours, servers and rows; none where the folder does not exist.
    """
    found = []
    for hour in hours(folder):
        if (since and hour <= since - _HOUR) or (until and hour > until):
            continue
        found += without_contained(files_of_hour(folder, hour))
    return found


def hours(folder: Path) -> list[datetime]:
    """Return the hours that have a folder, oldest first."""
    found = []
    for date_name in _names(folder):
        if date := _DATE.fullmatch(date_name):
            for hour_name in _names(folder / date_name):
                if hour := _HOUR_NAME.fullmatch(hour_name):
                    found.append(datetime.fromisoformat(f"{date[1]}T{hour[1]}:00:00+00:00"))
    return sorted(found)


def files_of_hour(folder: Path, hour: datetime) -> list[LogFile]:
    """Return all complete files of an hour, also those whose rows another one has too."""
    matches = filter(None, map(_NAME.fullmatch, _names(folder / hour_folder(hour))))
    return sorted(
        LogFile(hour, match["server"], int(match["first"]), int(match["end"]), folder)
        for match in matches
    )


def without_contained(files: Sequence[LogFile]) -> list[LogFile]:
    """Return the files of an hour without those whose rows another one has."""
    kept: list[LogFile] = []
    for _, own in groupby(sorted(files), key=attrgetter("server")):
        end = -1
        for file in sorted(own, key=lambda one: (one.first, -one.end)):
            if file.end > end:
                kept.append(file)
                end = file.end
    return kept


def _names(folder: Path) -> Iterator[str]:
    try:
        yield from sorted(entry.name for entry in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
