"""Rows of a query: by DuckDB over files, or by a database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from sqlalchemy import URL

from components.data.column_names import check_repeats
from components.data.database_queries import as_records, database_rows, read_url
from components.data.duckdb_queries import duckdb_rows
from components.data.raw_rows import SourceRows
from components.data.record_columns import record_batch
from components.ingest.sources.source import check_has_rows, find_files
from contract.schema.data_sources import SqlSource

_BATCH_ROWS = 8192


def files(source: SqlSource) -> list[Path]:
    """Return the source's name as the one 'file' to read, after a look at what it reads from."""
    if source.tables:
        _tables(source)
    else:
        _url(source)
    return [Path(source.place)]


def columns(source: SqlSource, file: Path) -> tuple[str, ...]:
    """Return the names of the query's columns; no row is read."""
    with _rows(source, f"SELECT * FROM ({_bare(source)}) AS q LIMIT 0") as (names, _):
        check_repeats(file, names)
        return names


def read(source: SqlSource, file: Path) -> Iterator[SourceRows]:
    """Yield typed rows in the query's order; rows count from 1."""
    query = f"SELECT * FROM ({_bare(source)}) AS q"
    if source.order_by:
        # By its table too: SQLite takes a quoted name that it does not know for a text.
        names = ('q."' + name.replace('"', '""') + '"' for name in source.order_by)
        query += f" ORDER BY {', '.join(names)}"
    first = 1
    with _rows(source, query) as (_, batches):
        for batch in batches:
            rows = np.arange(first, first + batch.num_rows)
            first += batch.num_rows
            yield SourceRows(str(file), rows, batch)
    check_has_rows(file, first - 1)


def size_bytes(source: SqlSource, file: Path) -> int:  # noqa: ARG001
    """Return the size of the files that the query reads; 0 where a database does."""
    return sum(path.stat().st_size for paths in _tables(source).values() for path in paths)


# --- inside -------------------------------------------------------------------------------------


@contextmanager
def _rows(
    source: SqlSource, query: str
) -> Iterator[tuple[tuple[str, ...], Iterator[pa.RecordBatch]]]:
    if source.tables:
        with duckdb_rows(source.place, query, _tables(source), _BATCH_ROWS) as reader:
            yield tuple(reader.schema.names), iter(reader)
        return
    with database_rows(source.place, query, _url(source), _BATCH_ROWS) as (names, pages):
        yield names, (record_batch(as_records(names, page), names) for page in pages)


def _bare(source: SqlSource) -> str:
    """Return the query without a semicolon at its end; a comment there ends with its line."""
    return source.query.strip().rstrip(";") + "\n"


def _tables(source: SqlSource) -> dict[str, list[Path]]:
    return {name: find_files(patterns) for name, patterns in source.tables.items()}


def _url(source: SqlSource) -> URL:
    if source.database is None:
        return read_url(source.place, source.url_env, source.url_file)
    (path,) = find_files((source.database,))
    address = f"file:{quote(str(path))}"
    return URL.create("sqlite", database=address, query={"mode": "ro", "uri": "true"})
