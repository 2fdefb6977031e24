"""Removing what is too old or too much, never by a number of files, and merging small ones."""

import contextlib
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from contract.prediction_log.files import TEMPORARY_PREFIX, files_of_hour, hour_folder, hours
from contract.schema.serving import ServeConfig

# A server merges its own files when an hour ends; after so long it has, or was killed.
_WRITTEN_FOR = timedelta(hours=2)


def tidy_log(folder: Path, serve: ServeConfig, now: datetime) -> int:
    """Remove a version's rows beyond the config's age, then the oldest files beyond its size.

    Small files of hours in which nobody writes any more are merged, remains of writers that were
    killed are removed, and so are empty folders. Several processes may do it at once.

    Returns:
        How many files with rows were removed.
    """
    oldest = now - timedelta(days=serve.prediction_log_days)
    _merge_past_hours(folder, now - _WRITTEN_FOR)
    for path in [*folder.glob(f"date=*/hour=*/{TEMPORARY_PREFIX}*")]:
        if _modified(path) < (now - _WRITTEN_FOR).timestamp():
            path.unlink(missing_ok=True)
    removed = 0
    files = _by_age(folder)
    excess = sum(size for _, _, size in files) - serve.prediction_log_max_mb * 2**20
    for end, path, size in files:
        if end <= oldest.timestamp() or excess > 0:
            path.unlink(missing_ok=True)
            excess -= size
            removed += 1
    _remove_empty_folders(folder, now - _WRITTEN_FOR)
    return removed


def _merge_past_hours(folder: Path, before: datetime) -> None:
    for hour in hours(folder):
        if hour <= before - timedelta(hours=1):
            files = files_of_hour(folder, hour)
            for _, own in groupby(files, key=attrgetter("server")):
                if len(group := [*own]) > 1:
                    from contract.prediction_log.writing import merge  # only here: pyarrow

                    merge(group)


def _by_age(folder: Path) -> list[tuple[float, Path, int]]:
    """Return for each file a POSIX time that none of its rows is younger than, its path and size.

    JSON lines, as 0.1.0 wrote them, are among them.
    """
    found = []
    for hour in hours(folder):
        end = (hour + timedelta(hours=1)).timestamp()
        found += [(end, file.path, _size(file.path)) for file in files_of_hour(folder, hour)]
    old = [(_modified(path), path, _size(path)) for path in folder.glob("*.jsonl")]
    return sorted(old + found)


def _remove_empty_folders(folder: Path, before: datetime) -> None:
    for hour in hours(folder):
        if hour <= before - timedelta(hours=1):
            for empty in (folder / hour_folder(hour), (folder / hour_folder(hour)).parent):
                with contextlib.suppress(OSError):
                    empty.rmdir()


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _modified(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0
