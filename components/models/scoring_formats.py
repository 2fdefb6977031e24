"""The files that batch inference reads rows from and writes answers to, by their extension."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from components.data.column_names import check_columns, check_types
from components.data.csv_files import first_row, hint_at_header, read_csv, read_header
from components.data.parquet_files import read_parquet, read_schema
from components.data.raw_examples import READ_ROWS, encode
from components.data.raw_rows import (
    BadRow,
    RowParser,
    SourceRows,
    column_problems,
    required_columns,
)
from components.models.score_keys import Keys, keys_of_batch, keys_of_examples
from contract.errors import DataError, UserError
from contract.schema.data import CsvSource
from contract.schema.pipeline import PipelineConfig
from contract.schema.split import SplitConfig

PACKED_CSV = (".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zst", ".csv.lz4")
READABLE = (".csv", *PACKED_CSV, ".parquet", ".tfrecord", ".tfrecord.gz")
WRITABLE = (".csv", ".jsonl", ".parquet", ".tfrecord", ".tfrecord.gz")


@dataclass(frozen=True)
class ExampleRows:
    """Consecutive rows as serialized raw tf.Examples.

    Attributes:
        number: Of the batch, from 0.
        rows: The rows' numbers in the file, counted from 1 without a header.
        examples: One per row.
        keys: The key columns that were asked for, one entry per row.
        bad: The rows that cannot be used, counted in the same way.
        lines: Where each row of a CSV file begins, by its number; empty for other files.
    """

    number: int
    rows: tuple[int, ...]
    examples: tuple[bytes, ...]
    keys: Keys = field(default_factory=dict)
    bad: tuple[BadRow, ...] = ()
    lines: Mapping[int, int] = field(default_factory=dict)


def extension(path: Path, known: Sequence[str]) -> str:
    """Return which known extension a file has.

    Raises:
        UserError: If it has none of them.
    """
    for ending in known:
        if path.name.endswith(ending):
            return ending
    raise UserError(f"{path}: expected a file that ends in one of {', '.join(known)}")


def read_rows(
    path: Path, config: PipelineConfig, keys: Sequence[str] = ()
) -> Iterator[ExampleRows]:
    """Yield the rows of a file. Labels need not be there, and are not looked at if they are.

    A CSV file is read as the pipeline's own CSV source is; where that has no header line the file
    may have one all the same, or lack the label columns.

    Args:
        path: The file.
        config: The pipeline's.
        keys: Columns to hand on with the rows, as they are.

    Raises:
        DataError: If the file is missing, empty, broken, or lacks a feature's or a key's column.
        UserError: If its extension is unknown.
    """
    kind = extension(path, READABLE)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if kind.startswith(".tfrecord"):
        yield from _from_tfrecord(path, "GZIP" if kind.endswith(".gz") else "", keys)
        return
    parser, is_csv, first = RowParser(without_labels(config)), kind.startswith(".csv"), 1
    open_rows = _csv_batches if is_csv else _parquet_batches
    for number, batch in enumerate(open_rows(path, config)):
        lines: dict[int, int] = {}
        if is_csv:
            batch, lines = _counted(batch, first)
            first += len(lines)
        parsed = parser.parse(batch)
        found = {
            name: column.take(parsed.rows)
            for name, column in keys_of_batch(path, batch.columns, keys).items()
        }
        rows = batch.rows[parsed.rows].tolist()
        encoded = encode(parsed.examples) if rows else []
        yield ExampleRows(number, tuple(rows), tuple(encoded), found, parsed.bad, lines)


def without_labels(config: PipelineConfig) -> PipelineConfig:
    """Return the config as it is for rows whose answers nobody knows: features only."""
    ingest = config.ingest.model_copy(update={"split": SplitConfig()})
    return config.model_copy(update={"heads": {}, "weight": None, "ingest": ingest})


# --- reading ------------------------------------------------------------------------------------


def _counted(batch: SourceRows, first: int) -> tuple[SourceRows, dict[int, int]]:
    """Return rows that are known by their lines by their numbers, and the line of each."""
    lines = sorted([*batch.rows.tolist(), *(bad.row for bad in batch.bad)])
    numbers = {line: number for number, line in enumerate(lines, first)}
    rows = np.array([numbers[line] for line in batch.rows.tolist()], np.int64)
    bad = tuple(replace(one, row=numbers[one.row]) for one in batch.bad)
    return replace(batch, rows=rows, bad=bad), {n: line for line, n in numbers.items()}


def _csv_batches(path: Path, config: PipelineConfig) -> Iterator[SourceRows]:
    own = config.ingest.source
    source = own if isinstance(own, CsvSource) else CsvSource(kind="csv", files=(str(path),))
    if source.columns is not None:
        first = first_row(path, source)
        labels = {config.label_column(head) for head in config.heads}
        features = tuple(name for name in source.columns if name not in labels)
        columns: tuple[str, ...] | None = source.columns
        if set(config.features) <= set(first):
            columns = None
        elif len(first) == len(features):
            columns = features
        source = source.model_copy(update={"columns": columns})
    found, needed = read_header(path, source), required_columns(without_labels(config))
    hint = "" if set(needed) <= set(found) else hint_at_header(path, source, needed)
    check_columns(path, found, needed, hint)
    return read_csv(path, source)


def _parquet_batches(path: Path, config: PipelineConfig) -> Iterator[SourceRows]:
    unlabelled, schema = without_labels(config), read_schema(path)
    check_columns(path, schema.names, required_columns(unlabelled))
    check_types(path, column_problems(schema, unlabelled))
    return read_parquet(path)


def _from_tfrecord(path: Path, compression: str, keys: Sequence[str]) -> Iterator[ExampleRows]:
    import tensorflow as tf

    batches = tf.data.TFRecordDataset(str(path), compression).batch(READ_ROWS)
    first = 1
    try:
        for number, batch in enumerate(batches.as_numpy_iterator()):
            rows, found = range(first, first + len(batch)), keys_of_examples(path, batch, keys)
            yield ExampleRows(number, tuple(rows), tuple(batch), found)
            first += len(batch)
    except tf.errors.DataLossError as error:
        raise DataError(
            f"{path}: truncated or not a {compression or 'plain'} TFRecord file, at or after row "
            f"{first}: {error.message}"
        ) from error


# --- writing ------------------------------------------------------------------------------------


def write_answers(path: Path, kind: str, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Write tables one after another as one file of a kind among WRITABLE."""
    if kind == ".csv":
        with arrow_csv.CSVWriter(path, schema) as writer:
            for table in tables:
                writer.write_table(table)
    elif kind == ".parquet":
        with pq.ParquetWriter(path, schema) as writer:
            for table in tables:
                writer.write_table(table)
    elif kind == ".jsonl":
        _write_json_lines(path, tables)
    else:
        _write_tfrecord(path, "GZIP" if kind.endswith(".gz") else "", tables)


def _write_json_lines(path: Path, tables: Iterable[pa.Table]) -> None:
    import json

    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


def _write_tfrecord(path: Path, compression: str, tables: Iterable[pa.Table]) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for table in tables:
            for batch in table.to_batches():
                for example in encode(_as_lists(batch)):
                    writer.write(example)


def _as_lists(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the columns as tf.Examples hold them: lists, text as bytes."""
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        flat = column.cast(pa.binary()) if pa.types.is_string(column.type) else column
        columns[name] = pa.ListArray.from_arrays(np.arange(len(flat) + 1, dtype=np.int32), flat)
    return pa.RecordBatch.from_pydict(columns)
