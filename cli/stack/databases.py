"""The databases of MLflow and Airflow: finding damage, making backups, restoring one.

A backup is made by each `slipway up` that has found the database sound; the last three are kept.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from contract.errors import UserError, did_you_mean

_PLACES = {"mlflow": "mlflow/mlflow.db", "airflow": "airflow/airflow.db"}
_KEPT = 3
_BUSY_SECONDS = 10.0


def database_of(home: Path, service: str) -> Path:
    """Return the file of a service's database below the state folder."""
    return home / _PLACES[service]


def damage(home: Path, service: str) -> str:
    """Say what is wrong with a service's database and what can be done; empty if nothing is."""
    path, backups = database_of(home, service), backups_of(home, service)
    if not path.exists():
        return ""
    # to SQLite an empty file is a sound database; one that had a backup has lost its content
    is_emptied = bool(backups) and not path.stat().st_size
    if not (trouble := "the file is empty" if is_emptied else _trouble(path)):
        return ""
    return f"{service} was not started: its database {path} is damaged ({trouble}); " + (
        f"put the backup of {_made_at(backups[-1])} in its place: slipway up --restore {service}"
        if backups
        else "there is no backup yet; repair it, or move it away to begin with an empty one"
    )


def backups_of(home: Path, service: str) -> list[Path]:
    """Return the backups of a service's database, oldest first."""
    return sorted((home / "backups").glob(f"{service}-*.db"))


def back_up(home: Path, service: str) -> None:
    """Copy a database, which may be in use, and remove all but the last three copies."""
    path = database_of(home, service)
    if not path.exists():
        return
    target = home / "backups" / f"{service}-{datetime.now(UTC):%Y%m%dT%H%M%S}.db"
    target.parent.mkdir(mode=0o700, exist_ok=True)
    unfinished = target.with_suffix(".unfinished")
    try:
        with _opened(path) as source, _opened(unfinished) as copy:
            source.backup(copy)
    except sqlite3.Error:
        unfinished.unlink(missing_ok=True)  # busy, or damaged since: the last backup stays
        return
    unfinished.chmod(0o600)  # Airflow's holds connections
    unfinished.replace(target)
    for old in backups_of(home, service)[:-_KEPT]:
        old.unlink(missing_ok=True)


def restore(home: Path, service: str) -> str:
    """Replace a database by its last backup and return what was done; the old file is kept.

    Raises:
        UserError: If the service has no database, or no backup of it.
    """
    if service not in _PLACES:
        nearest = did_you_mean(service, _PLACES)
        known = ", ".join(_PLACES)
        raise UserError(f"--restore {service}: unknown service{nearest} (known: {known})")
    backups = backups_of(home, service)
    if not backups:
        raise UserError(f"--restore {service}: there is no backup in {home / 'backups'}")
    path, now = database_of(home, service), f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with _opened(backups[-1]) as source, _opened(unfinished) as copy:
        source.backup(copy)
    kept = path.with_name(f"{path.name}.damaged-{now}")
    for suffix in ("", "-wal", "-shm", "-journal"):  # SQLite's own files beside it
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    unfinished.replace(path)
    return f"the backup of {_made_at(backups[-1])} is in place; the former database is {kept}"


def _trouble(path: Path) -> str:
    """Return SQLite's own complaint about a database; one that is busy has none."""
    try:
        with _opened(path) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        return "" if "locked" in str(error) else str(error)
    except sqlite3.Error as error:
        return str(error)
    return "" if found == "ok" else str(found).replace("\n", " ")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as database:
        yield database


def _made_at(backup: Path) -> str:
    made = datetime.strptime(backup.stem.rpartition("-")[2], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return f"{made.astimezone():%Y-%m-%d %H:%M:%S}"
