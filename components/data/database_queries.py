"""A query that a database answers, read in pages from one snapshot. No message holds the URL."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, Connection, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from contract.errors import DataError

_EXAMPLE = "postgresql+psycopg2://user:password@host/database"


@contextmanager
def database_rows(
    place: str, query: str, url: URL, page_rows: int
) -> Iterator[tuple[tuple[str, ...], Iterator[Sequence[tuple[Any, ...]]]]]:
    """Yield the names of the query's columns, and pages of its rows.

    The rows are those of one transaction; PostgreSQL keeps them in a cursor on the server.

    Raises:
        DataError: If the database cannot be reached or refuses the query. Also while rows are read.
    """
    try:
        engine = create_engine(url)
        with engine.connect() as connection:
            _isolate(connection)
            options = {"stream_results": True, "max_row_buffer": page_rows}
            options["no_parameters"] = True  # a % is a %, not a parameter
            result = connection.execution_options(**options).exec_driver_sql(query)
            pages = result.partitions(page_rows)
            yield tuple(result.keys()), ([tuple(row) for row in page] for page in pages)
    except ImportError as error:
        raise DataError(
            f"{place}: the driver '{error.name}' of the database is not installed; for PostgreSQL "
            "install slipway[postgres]"
        ) from None
    except (SQLAlchemyError, OSError) as error:
        # Not chained: a driver may repeat what it was given.
        raise DataError(f"{place}: the query failed: {without_secrets(str(error), url)}") from None
    finally:
        if "engine" in locals():
            engine.dispose()


def read_url(place: str, variable: str | None, file: str | None) -> URL:
    """Return the URL that an environment variable or a file holds.

    Raises:
        DataError: If it is missing or not a URL that SQLAlchemy knows.
    """
    where = f"the environment variable {variable}" if variable else f"the file {file}"
    try:
        found = os.environ.get(variable, "") if variable else Path(str(file)).read_text("utf-8")
    except (OSError, UnicodeError):
        found = ""
    if not found.strip():
        raise DataError(
            f"{place}: {where} is missing or empty; expected an SQLAlchemy URL such as {_EXAMPLE}, "
            "set where the steps run (on Kubernetes by a Secret, see pod.environment_secrets)"
        )
    try:
        url = make_url(found.strip())
        if url.drivername == "postgresql":  # the driver that slipway[postgres] installs
            url = url.set(drivername="postgresql+psycopg2")
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise DataError(
            f"{place}: {where} holds no URL of a known database; expected one such as {_EXAMPLE}"
        ) from None
    return url


def without_secrets(message: str, url: URL) -> str:
    """Return a message with each secret of a URL replaced by ***, also where it is quoted."""
    secrets = [str(url.password or ""), url.render_as_string(hide_password=False)]
    secrets += [str(value) for name, value in url.query.items() if _is_secret(name)]
    forms = {form for one in secrets if one for form in (one, quote(one, safe=""), quote_plus(one))}
    for form in sorted(forms, key=len, reverse=True):
        message = message.replace(form, "***")
    return message


def as_records(names: Sequence[str], page: Sequence[tuple[Any, ...]]) -> list[Mapping[str, Any]]:
    """Return rows by the names of their columns; bytes as bytes."""
    return [
        {n: bytes(v) if isinstance(v, memoryview) else v for n, v in zip(names, row, strict=True)}
        for row in page
    ]


# --- inside -------------------------------------------------------------------------------------


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in ("pass", "token", "secret", "key"))


def _isolate(connection: Connection) -> None:
    """Let all pages show the data of one moment, and nothing be written."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
    elif connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA query_only = ON"))
