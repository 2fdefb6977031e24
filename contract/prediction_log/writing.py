"""Writing files of the prediction log: whole or not at all, and many small ones into one."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contract.prediction_log.files import TEMPORARY_PREFIX, LogFile, without_contained
from contract.storage import storage_errors

MERGED_BYTES = 64 << 20  # a merged file gets no larger: retention removes whole files
_COMPRESSION = "zstd"
_GROUP_BYTES = 32 << 20


def write_rows(file: LogFile, table: pa.Table) -> None:
    """Write the rows of a new file.

    Raises:
        StorageError: If the disk is full, read-only or broken.
    """
    with _new_file(file, table.schema) as writer:
        writer.write_table(table)


def merge(files: Sequence[LogFile]) -> list[LogFile]:
    """Merge neighbouring files of one server and hour; return the files that there are then.

    Files whose rows a larger one has are removed. A file that vanishes meanwhile was merged or
    removed by another process: then nothing more is done.
    """
    kept = without_contained(files)
    _remove(set(files) - set(kept))
    return [_merged(group) if len(group) > 1 else group[0] for group in _groups(kept)]


def _groups(files: Sequence[LogFile]) -> Iterator[list[LogFile]]:
    """Yield runs of files without a gap between their rows, together not too large."""
    group: list[LogFile] = []
    size = 0
    for file in files:
        try:
            own = file.path.stat().st_size
        except FileNotFoundError:
            continue
        if group and (size + own > MERGED_BYTES or not _follows(group[-1], file)):
            yield group
            group, size = [], 0
        group.append(file)
        size += own
    if group:
        yield group


def _follows(one: LogFile, other: LogFile) -> bool:
    return (one.hour, one.server, one.end) == (other.hour, other.server, other.first)


def _merged(group: Sequence[LogFile]) -> LogFile:
    target = replace(group[0], end=group[-1].end)
    try:
        with _new_file(target, pq.read_schema(group[0].path)) as writer:
            for table in _gathered(group):
                writer.write_table(table)
    except FileNotFoundError:
        return target
    _remove(group)
    return target


def _gathered(group: Sequence[LogFile]) -> Iterator[pa.Table]:
    """Yield the rows in tables of a size that compresses well and fits into memory."""
    waiting: list[pa.Table] = []
    for file in group:
        with pq.ParquetFile(file.path) as opened:
            waiting.append(opened.read(use_threads=False))
        if sum(table.nbytes for table in waiting) >= _GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _remove(files: Sequence[LogFile] | set[LogFile]) -> None:
    for file in files:
        file.path.unlink(missing_ok=True)


@contextmanager
def _new_file(file: LogFile, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Yield a writer; what it has written gets the file's name only if all went well."""
    target = file.path
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as sink:
                with pq.ParquetWriter(sink, schema, compression=_COMPRESSION) as writer:
                    yield writer
                sink.flush()
                os.fsync(sink.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)
