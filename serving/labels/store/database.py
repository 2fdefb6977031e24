"""Opening the database, and what is said if it is locked or down."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)

from contract.errors import ConfigError, ServiceUnavailableError
from serving.labels.store.upgrading import upgrade

Done = TypeVar("Done")

_PATIENCE_SECONDS = 10.0  # then the caller is told
_LOCK_SECONDS = 2.0  # of them SQLite waits for another writer before it is tried again
_PAUSES_SECONDS = (0.01, 0.1)  # between two tries, by chance
_POSTGRES = "postgresql+psycopg2"  # the driver of the extra 'postgres'
_READING = {"slipway_is_reading": True}


class Database:
    """A database of questions and answers; every change is one transaction, whole or not at all."""

    def __init__(self, url: str, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        """Open it; tables are made where there are none, and older ones upgraded.

        Args:
            url: As SQLAlchemy's, `sqlite:////var/lib/labels.db` or `postgresql://user@host/name`.
            patience_seconds: How long a locked database is tried again.

        Raises:
            ConfigError: If the URL is none, its driver is missing, or the tables are newer.
            ServiceUnavailableError: If the database does not answer.
        """
        self._patience_seconds = patience_seconds
        self._engine = _engine(url, min(_LOCK_SECONDS, patience_seconds))
        # SQLite has one writer at a time, and looks for its turn only now and then
        is_single = self._engine.dialect.name == "sqlite"
        self._turn = threading.Lock() if is_single else None
        self.address = self._engine.url.render_as_string(hide_password=True)
        self.change(upgrade)

    def change(self, work: Callable[[Connection], Done], is_lasting: bool = True) -> Done:
        """Do some work in a transaction, again if another one was in the way.

        Args:
            work: What to do; it may be done again from the beginning.
            is_lasting: Whether it must outlast a power cut, and PostgreSQL's crash. Else it may be
                undone by one, if it was done in the second before, as if it had not been, and with
                nothing half done; it takes a millisecond and not ten.

        Raises:
            ServiceUnavailableError: If the database stays locked or does not answer. Nothing was
                changed then.
        """
        until = time.monotonic() + self._patience_seconds
        while True:
            try:
                with (
                    self._own_turn(until),
                    self._connect(is_lasting) as connection,
                    connection.begin(),
                ):
                    return work(connection)
            except IntegrityError:  # two have done the same at once: the other one was first
                if time.monotonic() > until:
                    raise
            except DBAPIError as error:
                if not _may_pass(error) or time.monotonic() > until:
                    raise ServiceUnavailableError(
                        f"{self.address}: {_reason(error)}; nothing was changed, try again"
                    ) from error
            time.sleep(random.uniform(*_PAUSES_SECONDS))

    @contextmanager
    def _own_turn(self, until: float) -> Iterator[None]:
        """Wait for the turn to write, not longer than until a moment."""
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=max(0.0, until - time.monotonic())):
            raise ServiceUnavailableError(
                f"{self.address}: others are writing; nothing was changed, try again"
            )
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees one state of the database.

        Raises:
            ServiceUnavailableError: If it does not answer.
        """
        try:
            with self._engine.connect().execution_options(**_READING) as connection:
                yield connection
        except DBAPIError as error:
            raise ServiceUnavailableError(
                f"{self.address}: {_reason(error)}; nothing was changed, try again"
            ) from error

    def _connect(self, is_lasting: bool) -> Connection:
        return self._engine.connect().execution_options(slipway_is_lasting=is_lasting)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def sqlite_url(path: Path) -> str:
    """Return the URL of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path.absolute()}"


def _engine(url: str, lock_seconds: float) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            engine = create_engine(parsed, pool_size=20, connect_args={"timeout": lock_seconds})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        if parsed.drivername == "postgresql":  # SQLAlchemy would take psycopg 3
            parsed = parsed.set(drivername=_POSTGRES)
        engine = create_engine(parsed, pool_pre_ping=True, pool_size=10, max_overflow=20)
        if parsed.get_backend_name() == "postgresql":
            event.listen(engine, "begin", _begin_postgresql)
        return engine
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigError(
            [
                f"database '{_without_password(url)}': {error}; expected such as "
                "sqlite:////var/lib/slipway/labels.db or postgresql://user@host/name "
                "(pip install 'slipway[postgres]')"
            ]
        ) from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Let readers go on while one writes."""
    connection.isolation_level = None  # we begin transactions ourselves
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    """Take the lock for writing at once: one that has read cannot wait for it later."""
    options = connection.get_execution_options()
    is_reading = _READING.items() <= options.items()
    is_lasting = options.get("slipway_is_lasting", True)
    connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if is_lasting else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")


def _begin_postgresql(connection: Connection) -> None:
    """Let what need not last return before it is on the disk."""
    if not connection.get_execution_options().get("slipway_is_lasting", True):
        connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")


def _may_pass(error: DBAPIError) -> bool:
    """Tell whether a second try may do better: the database was locked, or the connection lost."""
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def _reason(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split()) or type(error.orig).__name__


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if rest else url
