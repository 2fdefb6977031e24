"""Arrow IPC files and streams, also called Feather."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa

from components.data.raw_rows import SourceRows
from components.data.typed_files import Opened, TypedFormat, read_typed, read_typed_schema
from components.ingest.sources.source import find_files
from contract.schema.data_sources import ArrowSource

# Source: https://arrow.apache.org/docs/format/Columnar.html (file and stream formats).
_FILE_MARK = b"ARROW1"
_FEATHER_1_MARK = b"FEA1"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def files(source: ArrowSource) -> list[Path]:
    """Return the files that the source's paths and globs match."""
    return find_files(source.files)


def schema(source: ArrowSource, file: Path) -> pa.Schema:  # noqa: ARG001
    """Return the columns of one file with their types."""
    return read_typed_schema(file, _ARROW)


def columns(source: ArrowSource, file: Path) -> tuple[str, ...]:
    """Return the names of the columns, then of those that the folders say."""
    return tuple(schema(source, file).names)


def read(source: ArrowSource, file: Path) -> Iterator[SourceRows]:  # noqa: ARG001
    """Yield typed rows; rows count from 1."""
    return read_typed(file, _ARROW)


def size_bytes(source: ArrowSource, file: Path) -> int:  # noqa: ARG001
    """Return the file's size."""
    return file.stat().st_size


# --- inside -------------------------------------------------------------------------------------


def _open(file: IO[bytes]) -> Opened:
    head = file.read(len(_FILE_MARK))
    file.seek(0)
    if head.startswith(_FEATHER_1_MARK):
        raise pa.ArrowInvalid("Feather version 1; write it again with pyarrow.feather, version 2")
    if head == _FILE_MARK:
        reader = pa.ipc.open_file(file)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        return reader.schema, batches
    _check_end(file)
    stream = pa.ipc.open_stream(file)
    return stream.schema, iter(stream)


def _check_end(file: IO[bytes]) -> None:
    """Refuse a stream without its end: cut between two batches it would be read without error."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - len(_END_OF_STREAM)))
    if file.read() != _END_OF_STREAM:
        raise pa.ArrowInvalid("it does not end in the mark of the stream's end")
    file.seek(0)


_ARROW = TypedFormat("an Arrow file or stream", _open)
