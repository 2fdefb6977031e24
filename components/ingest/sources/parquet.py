"""Parquet files."""

from collections.abc import Iterator
from pathlib import Path

from components.data.parquet_files import read_parquet, read_schema
from components.data.raw_rows import SourceRows
from components.ingest.sources.source import find_files
from contract.schema.data import ParquetSource


def files(source: ParquetSource) -> list[Path]:
    """Return the files that the source's paths and globs match."""
    return find_files(source.files)


def columns(source: ParquetSource, file: Path) -> tuple[str, ...]:  # noqa: ARG001
    """Return the names of the top-level columns, then of those that the folders say."""
    return tuple(read_schema(file).names)


def read(source: ParquetSource, file: Path) -> Iterator[SourceRows]:  # noqa: ARG001
    """Yield typed rows; rows count from 1."""
    return read_parquet(file)


def size_bytes(source: ParquetSource, file: Path) -> int:  # noqa: ARG001
    """Return the file's size."""
    return file.stat().st_size
