"""A DuckDB query over files: labels and features are computed where the files are read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from contract.errors import DataError

_READERS = {
    "read_parquet": (".parquet", ".pq"),
    "read_csv": (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst"),
    "read_json": (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz"),
}
# By default DuckDB takes a column's type from the first rows or files, and rounds what comes later
# to it: 3.7 becomes 4. All rows and files are looked at instead.
_OPTIONS = {
    "read_parquet": "union_by_name = true",
    "read_csv": "sample_size = -1, files_to_sniff = -1",
    "read_json": "sample_size = -1, union_by_name = true",
}


@contextmanager
def duckdb_rows(
    place: str, query: str, tables: Mapping[str, Sequence[Path]], batch_rows: int
) -> Iterator[pa.RecordBatchReader]:
    """Yield a reader of the query's rows. The query reads no file but those of its tables.

    Raises:
        DataError: If the query is wrong or a file cannot be read. Also while rows are read.
    """
    try:
        with duckdb.connect() as connection:
            for name, paths in tables.items():
                reader = _reader(place, paths)
                columns = f"{reader}({_listed(paths)}, {_OPTIONS[reader]})"
                connection.execute(f"CREATE VIEW {_quoted(name)} AS SELECT * FROM {columns}")
            allowed = [path for paths in tables.values() for path in paths]
            connection.execute(f"SET allowed_paths = {_listed(allowed)}")
            connection.execute("SET TimeZone = 'UTC'")  # the machine's own would show in the rows
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection.sql(query).to_arrow_reader(batch_rows)
    except (duckdb.Error, pa.ArrowException) as error:
        raise DataError(f"{place}: the query failed: {error}") from error


def _reader(place: str, paths: Sequence[Path]) -> str:
    found = {
        reader
        for path in paths
        for reader, ends in _READERS.items()
        if path.name.lower().endswith(ends)
    }
    if len(found) != 1:
        known = ", ".join(end for ends in _READERS.values() for end in ends)
        raise DataError(
            f"{place}: {paths[0]}: expected files of one format, by the end of their names "
            f"({known})"
        )
    return found.pop()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _listed(paths: Sequence[Path]) -> str:
    texts = ("'" + str(path).replace("'", "''") + "'" for path in paths)
    return f"[{', '.join(texts)}]"
