"""TFRecord files of tf.Example, as TFX and tf.data write them."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from components.data.raw_rows import BadRow, SourceRows
from components.data.source_columns import partition_columns, with_partitions
from components.data.tf_example import example_class
from components.data.tfrecord_shards import BrokenRecordError, read_records
from components.ingest.sources.source import check_has_rows, find_files
from contract.errors import DataError
from contract.schema.data import Compression
from contract.schema.data_sources import TfRecordSource

_BATCH_ROWS = 2048
_EXAMPLES_LOOKED_AT = 1000
_TYPES = {"bytes_list": pa.binary(), "float_list": pa.float32(), "int64_list": pa.int64()}
_GZIP_MARK = b"\x1f\x8b"


def files(source: TfRecordSource) -> list[Path]:
    """Return the files that the source's paths and globs match."""
    return find_files(source.files)


def columns(source: TfRecordSource, file: Path) -> tuple[str, ...]:
    """Return the config's names, or those of the first examples, then those that folders say."""
    return tuple(dict.fromkeys([*_names(source, file), *partition_columns(file)]))


def read(source: TfRecordSource, file: Path) -> Iterator[SourceRows]:
    """Yield rows of lists; rows count from 1. A record that is no tf.Example is a bad row."""
    names = _names(source, file)
    count = 0
    examples = _examples(file)
    while block := list(islice(examples, _BATCH_ROWS)):
        good = [(number, found) for number, found in block if found is not None]
        bad = tuple(
            BadRow(str(file), number, "row: not a tf.Example", "", "")
            for number, found in block
            if found is None
        )
        for rows, batch in _batches(good, names):
            yield SourceRows(str(file), rows, with_partitions(batch, file), bad)
            bad = ()
        if bad:
            rows, batch = _batch([], names)
            yield SourceRows(str(file), rows, with_partitions(batch, file), bad)
        count += len(block)
    check_has_rows(file, count)


def size_bytes(source: TfRecordSource, file: Path) -> int:  # noqa: ARG001
    """Return the file's size."""
    return file.stat().st_size


# --- inside -------------------------------------------------------------------------------------

_Example = tuple[int, Any]  # number and message, None if it is not one


def _names(source: TfRecordSource, file: Path) -> tuple[str, ...]:
    if source.columns is not None:
        return source.columns
    names: set[str] = set()
    for _, found in islice(_examples(file), _EXAMPLES_LOOKED_AT):
        names.update(found.features.feature if found is not None else ())
    return tuple(sorted(names))  # a map has no order


def _examples(file: Path) -> Iterator[_Example]:
    new = example_class()
    number = 0
    try:
        for number, record in enumerate(read_records(file, _compression(file)), start=1):
            try:
                yield (number, new.FromString(record))
            except DecodeError:
                yield (number, None)
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such file") from error
    except (BrokenRecordError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{file}: truncated, damaged or not a TFRecord file: record {number + 1} is not whole"
        ) from error


def _compression(file: Path) -> Compression:
    with file.open("rb") as opened:
        return "gzip" if opened.read(2) == _GZIP_MARK else "none"


def _batches(
    examples: Sequence[_Example], names: Sequence[str]
) -> Iterator[tuple[np.ndarray[Any, Any], pa.RecordBatch]]:
    """Yield batches in which each column has one type."""
    start = 0
    held: dict[str, str] = {}
    for place, (_, example) in enumerate(examples):
        kinds = {n: f.WhichOneof("kind") for n, f in example.features.feature.items()}
        found = {name: kind for name, kind in kinds.items() if kind is not None}
        if any(held.get(name, kind) != kind for name, kind in found.items()):
            yield _batch(examples[start:place], names)
            start, held = place, {}
        held |= found
    if examples[start:]:
        yield _batch(examples[start:], names)


def _batch(
    examples: Sequence[_Example], names: Sequence[str]
) -> tuple[np.ndarray[Any, Any], pa.RecordBatch]:
    columns = [_column([example.features.feature for _, example in examples], n) for n in names]
    rows = np.array([number for number, _ in examples], np.int64)
    return rows, pa.RecordBatch.from_arrays(columns, list(names))


def _column(features: Sequence[Any], name: str) -> pa.Array:
    """Return one feature of examples as lists, null where it is absent or empty."""
    kind, values = "", []
    for of_example in features:
        found = of_example[name].WhichOneof("kind") if name in of_example else None
        kind = found or kind
        value = list(getattr(of_example[name], found).value) if found else None
        values.append(value or None)
    return pa.array(values, pa.list_(_TYPES[kind]) if kind else pa.null())
