"""Comma-separated text files."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from components.data.csv_files import read_csv, read_header
from components.data.raw_rows import SourceRows
from components.data.source_columns import partition_columns, with_partitions
from components.ingest.sources.source import find_files
from contract.schema.data import CsvSource


def files(source: CsvSource) -> list[Path]:
    """Return the files that the source's paths and globs match."""
    return find_files(source.files)


def columns(source: CsvSource, file: Path) -> tuple[str, ...]:
    """Return the header's names, or the config's, then those that the folders say."""
    return tuple(dict.fromkeys([*read_header(file, source), *partition_columns(file)]))


def read(source: CsvSource, file: Path) -> Iterator[SourceRows]:
    """Yield rows of text, null where missing."""
    for rows in read_csv(file, source):
        yield replace(rows, columns=with_partitions(rows.columns, file))


def size_bytes(source: CsvSource, file: Path) -> int:  # noqa: ARG001 (as every source has it)
    """Return the file's size."""
    return file.stat().st_size
