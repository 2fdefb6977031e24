"""Parquet files read in batches of typed columns, with the columns that their folders say."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.column_names import check_repeats
from components.data.raw_rows import SourceRows
from components.data.remote_files import is_remote
from components.data.source_columns import partition_columns, with_partitions
from contract.errors import DataError

_BATCH_ROWS = 8192


def read_schema(path: Path) -> pa.Schema:
    """Return the top-level columns of a file and those that its folders say (as text).

    Raises:
        DataError: If it is missing, empty or no Parquet file, or if a name repeats.
    """
    with _opened(path) as parquet:
        schema = parquet.schema_arrow.remove_metadata()
    check_repeats(path, schema.names)
    for name in partition_columns(path):
        if name not in schema.names:
            schema = schema.append(pa.field(name, pa.string()))
    return schema


def read_parquet(path: Path) -> Iterator[SourceRows]:
    """Yield typed rows; rows count from 1.

    Raises:
        DataError: If the file cannot be read or has no rows.
    """
    first = 1
    with _opened(path) as parquet:
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
            rows = np.arange(first, first + batch.num_rows)
            first += batch.num_rows
            yield SourceRows(str(path), rows, with_partitions(batch, path))
    if first == 1:
        raise DataError(f"{path}: no rows")


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: empty; expected a Parquet file")
        with ExitStack() as stack:
            source = stack.enter_context(path.open("rb")) if is_remote(str(path)) else path
            yield stack.enter_context(pq.ParquetFile(source))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: truncated or not a Parquet file: {error}") from error
