"""Parquet files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.ingest.sources.source import find_files
from components.raw_rows import SourceRows
from contract.errors import DataError
from contract.schema.data import ParquetSource

_BATCH_ROWS = 8192


def files(source: ParquetSource) -> list[Path]:
    """Return the files that the source's paths and globs match."""
    return find_files(source.files)


def columns(source: ParquetSource, file: Path) -> tuple[str, ...]:  # noqa: ARG001
    """Return the names of the top-level columns."""
    with _opened(file) as parquet:
        return tuple(parquet.schema_arrow.names)


def read(source: ParquetSource, file: Path) -> Iterator[SourceRows]:  # noqa: ARG001
    """Yield typed rows; rows count from 1."""
    first = 1
    with _opened(file) as parquet:
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
            rows = np.arange(first, first + batch.num_rows)
            first += batch.num_rows
            yield SourceRows(str(file), rows, batch)
    if first == 1:
        raise DataError(f"{file}: no rows")


def size_bytes(source: ParquetSource, file: Path) -> int:  # noqa: ARG001
    """Return the file's size."""
    return file.stat().st_size


@contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    if file.stat().st_size == 0:
        raise DataError(f"{file}: empty; expected a Parquet file")
    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file}: truncated or not a Parquet file: {error}") from error
