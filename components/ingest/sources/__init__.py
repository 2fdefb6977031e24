"""Where rows come from: one small module per kind, all with the same four functions.

`files(source)`             the paths that are read, each by itself; DataError if there are none
`columns(source, file)`     the column names of one file, read without its rows
`read(source, file)`        the rows, as batches of `SourceRows`; DataError if it is broken
`size_bytes(source, file)`  about how much there is to read, for packing work

A kind of typed files may also have `schema(source, file)`, the columns with their types: a column
that cannot be read as the config says is then found before any row is read.

To add a source takes two files: its section in `contract/schema/data_sources.py` (a `SourceSection`
that marks its paths and says how new data shows), named in the union `Source` of
`contract/schema/data.py`, and a module here that is called as its `kind`. Then `slipway schema`
writes the schema for editors again.
"""

from importlib import import_module
from pathlib import Path
from typing import cast

import pyarrow as pa

from components.data.column_names import check_columns, check_types
from components.data.csv_files import hint_at_header
from components.data.parquet_files import read_schema
from components.data.raw_rows import column_problems, required_columns
from components.ingest.sources.source import SourceModule
from contract.schema.data import CsvSource, ParquetSource, Source
from contract.schema.pipeline import PipelineConfig


def module_of(source: Source) -> SourceModule:
    """Return the module that reads a source: the one here that has its kind's name."""
    return cast(SourceModule, import_module(f"{__name__}.{source.kind}"))


def checked_columns(source: Source, file: Path, config: PipelineConfig) -> tuple[str, ...]:
    """Return the names of a file's columns; rows are not read.

    Raises:
        DataError: If the file is missing, broken or empty, or lacks a column that the config names,
            or has one of a type that cannot be read as what the config says.
    """
    found, needed = module_of(source).columns(source, file), required_columns(config)
    hint = ""
    if isinstance(source, CsvSource) and not set(needed) <= set(found):
        hint = hint_at_header(file, source, needed)
    check_columns(file, found, needed, hint)
    if schema := _schema_of(source, file):
        check_types(file, column_problems(schema, config))
    return found


def _schema_of(source: Source, file: Path) -> pa.Schema | None:
    if isinstance(source, ParquetSource):
        return read_schema(file)
    find = getattr(module_of(source), "schema", None)
    return None if find is None else find(source, file)
