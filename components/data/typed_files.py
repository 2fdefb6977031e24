"""Files with typed columns, read in batches: what Arrow, ORC and Avro files have in common.

A format is one function, `TypedFormat.open`: from an open file to its schema and its batches. The
rest is the same for all: numbers of rows, columns that folders say, and errors that name the file.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from components.data.column_names import check_repeats
from components.data.raw_rows import SourceRows
from components.data.source_columns import partition_columns, with_partitions
from contract.errors import DataError

_BATCH_ROWS = 8192

Opened = tuple[pa.Schema, Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class TypedFormat:
    """A format of files: its name with an article, for messages, and how it is opened."""

    name: str
    open: Callable[[IO[bytes]], Opened]


def read_typed_schema(path: Path, form: TypedFormat) -> pa.Schema:
    """Return the columns of a file and those that its folders say (as text).

    Raises:
        DataError: If it is missing, empty or of another format, or if a name repeats.
    """
    with _opened(path, form) as (schema, _):
        schema = schema.remove_metadata()
    check_repeats(path, schema.names)
    for name in partition_columns(path):
        if name not in schema.names:
            schema = schema.append(pa.field(name, pa.string()))
    return schema


def read_typed(path: Path, form: TypedFormat) -> Iterator[SourceRows]:
    """Yield typed rows; rows count from 1.

    Raises:
        DataError: If the file cannot be read or has no rows.
    """
    first = 1
    with _opened(path, form) as (_, batches):
        for batch in batches:
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                part = with_partitions(batch.slice(start, _BATCH_ROWS), path)
                yield SourceRows(str(path), np.arange(first, first + part.num_rows), part)
                first += part.num_rows
    if first == 1:
        raise DataError(f"{path}: no rows")


# --- inside -------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, form: TypedFormat) -> Iterator[Opened]:
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise DataError(f"{path}: empty; expected {form.name}")
            file.seek(0)
            yield form.open(file)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: truncated or not {form.name}: {error}") from error
