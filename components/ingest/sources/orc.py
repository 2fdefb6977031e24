"""ORC files."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
from pyarrow import orc

from components.data.raw_rows import SourceRows
from components.data.typed_files import Opened, TypedFormat, read_typed, read_typed_schema
from components.ingest.sources.source import find_files
from contract.schema.data_sources import OrcSource


def files(source: OrcSource) -> list[Path]:
    """Return the files that the source's paths and globs match."""
    return find_files(source.files)


def schema(source: OrcSource, file: Path) -> pa.Schema:  # noqa: ARG001
    """Return the columns of one file with their types."""
    return read_typed_schema(file, _ORC)


def columns(source: OrcSource, file: Path) -> tuple[str, ...]:
    """Return the names of the columns, then of those that the folders say."""
    return tuple(schema(source, file).names)


def read(source: OrcSource, file: Path) -> Iterator[SourceRows]:  # noqa: ARG001
    """Yield typed rows, a stripe at a time; rows count from 1."""
    return read_typed(file, _ORC)


def size_bytes(source: OrcSource, file: Path) -> int:  # noqa: ARG001
    """Return the file's size."""
    return file.stat().st_size


# --- inside -------------------------------------------------------------------------------------


def _open(file: IO[bytes]) -> Opened:
    opened = orc.ORCFile(file)
    return opened.schema, (opened.read_stripe(number) for number in range(opened.nstripes))


_ORC = TypedFormat("an ORC file", _open)
