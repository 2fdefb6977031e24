"""Reading the prediction log, also while it is written: complete files only, each row once."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from contract.errors import DataError
from contract.prediction_log.columns import (
    CONFIDENCE,
    EXAMPLE,
    FIXED,
    INPUT,
    OUTPUT,
    PREDICTED,
    SCORES,
)
from contract.prediction_log.files import LogFile, complete_files
from contract.records.prediction import Prediction

_GROUPS = {"predicted": PREDICTED, "confidence": CONFIDENCE, "scores": SCORES, "outputs": OUTPUT}


def read_tables(
    folder: Path,
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of a version's log by hour and server, one table a file.

    Args:
        folder: `PipelineLayout.predictions(version)`.
        since: The first hour of which rows are read; earlier ones of that hour are among them.
        until: The same of the last hour.
        columns: As `read_file` takes them.

    Raises:
        DataError: If a file is broken.
    """
    read: dict[tuple[datetime, str], int] = {}
    while True:
        files = complete_files(folder, since, until)
        files = [file for file in files if file.end > read.get((file.hour, file.server), 0)]
        for file in files:
            if (table := read_file(file, columns)) is None:
                break  # merged or removed a moment ago: look again
            first = max(file.first, read.get((file.hour, file.server), 0))
            read[file.hour, file.server] = file.end
            yield table.slice(first - file.first)
        else:
            return


def read_file(file: LogFile, columns: Sequence[str] | None = None) -> pa.Table | None:
    """Return one file's rows; None if it is not there any more.

    Args:
        file: A complete file.
        columns: Names of columns; one that ends in a colon stands for all that begin with it, as
            `predicted:` for all heads. None for all columns.

    Raises:
        DataError: If it is broken.
    """
    try:
        with pq.ParquetFile(file.path) as opened:
            names = opened.schema_arrow.names
            chosen = [name for name in names if columns is None or _is_among(name, columns)]
            return opened.read(chosen, use_threads=False)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file.path}: not a readable Parquet file: {error}; remove it to read the others"
        ) from error


def predictions_of(table: pa.Table) -> Iterator[Prediction]:
    """Yield a table's rows as records; for many rows use the table's columns instead."""
    for row in table.to_pylist():
        groups = {
            group: {
                name.removeprefix(prefix): value
                for name, value in row.items()
                if name.startswith(prefix) and value is not None
            }
            for group, prefix in _GROUPS.items()
        }
        fixed = {name: row[name] for name in FIXED.names}
        yield Prediction(**fixed, **groups, inputs=_inputs(row), example=row.get(EXAMPLE))


def _is_among(name: str, columns: Sequence[str]) -> bool:
    group, colon, _ = name.partition(":")
    return name in columns or (bool(colon) and group + colon in columns)


def _inputs(row: dict[str, Any]) -> dict[str, Any] | None:
    found = {n.removeprefix(INPUT): v for n, v in row.items() if n.startswith(INPUT)}
    return None if all(value is None for value in found.values()) else found
