"""Avro files: blocks of records with a schema."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import fastavro
import pyarrow as pa

from components.data.raw_rows import SourceRows
from components.data.record_columns import record_batch
from components.data.typed_files import Opened, TypedFormat, read_typed, read_typed_schema
from components.ingest.sources.source import find_files
from contract.schema.data_sources import AvroSource

_BATCH_ROWS = 8192


def files(source: AvroSource) -> list[Path]:
    """Return the files that the source's paths and globs match."""
    return find_files(source.files)


def columns(source: AvroSource, file: Path) -> tuple[str, ...]:  # noqa: ARG001
    """Return the names of the record's fields, then of those that the folders say."""
    return tuple(read_typed_schema(file, _AVRO).names)


def read(source: AvroSource, file: Path) -> Iterator[SourceRows]:  # noqa: ARG001
    """Yield rows with the types of their values; rows count from 1."""
    return read_typed(file, _AVRO)


def size_bytes(source: AvroSource, file: Path) -> int:  # noqa: ARG001
    """Return the file's size."""
    return file.stat().st_size


# --- inside -------------------------------------------------------------------------------------


def _open(file: IO[bytes]) -> Opened:
    try:
        records = fastavro.reader(file)
    except (ArithmeticError, IndexError, KeyError, TypeError) as error:  # of damaged bytes
        raise ValueError(f"its header cannot be read: {error!r}") from error
    fields: Any = getattr(records, "writer_schema", None)
    if not isinstance(fields, dict) or fields.get("type") != "record":
        raise ValueError(f"expected records, found {fields!r}")
    names = [field["name"] for field in fields["fields"]]
    # Types come with the values: a field may be a union of several.
    return pa.schema([(name, pa.null()) for name in names]), _batches(records, names)


def _batches(records: Any, names: list[str]) -> Iterator[pa.RecordBatch]:
    rows = iter(records)
    number = 0
    while True:
        try:
            block = list(islice(rows, _BATCH_ROWS))
        except (ArithmeticError, IndexError, KeyError, TypeError) as error:  # of damaged bytes
            raise ValueError(f"damaged after row {number:,}: {error!r}") from error
        if not block:
            return
        number += len(block)
        yield record_batch(block, names)


_AVRO = TypedFormat("an Avro file", _open)
