"""Records, as JSON and Avro files and databases have them, as Arrow columns.

A column has the type of its values. Where they have several, each is written as text, as a CSV file
would hold it; what a cell means is decided later, the same for all sources.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa


def record_batch(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pa.RecordBatch:
    """Return records as columns; null where a record lacks a name."""
    columns = [column_of([record.get(name) for record in records]) for name in names]
    return pa.RecordBatch.from_arrays(columns, list(names))


def column_of(values: Sequence[Any]) -> pa.Array:
    """Return values as an array; objects (mappings) become JSON text."""
    if any(isinstance(value, Mapping) for value in values):
        values = [_json(value) if isinstance(value, Mapping) else value for value in values]
    try:
        column = pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return _text_column(values)
    return _text_column(values) if _has_struct(column.type) else column


def names_of(records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return all names of the records, in the order in which they come up."""
    names: dict[str, None] = {}
    for record in records:
        names.update(dict.fromkeys(record))
    return tuple(names)


# --- inside -------------------------------------------------------------------------------------


def _has_struct(kind: pa.DataType) -> bool:
    while pa.types.is_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_struct(kind))


def _text_column(values: Sequence[Any]) -> pa.Array:
    if not any(isinstance(value, list) for value in values):
        return pa.array([_text(value) for value in values], pa.string())
    lists = [value if value is None or isinstance(value, list) else [value] for value in values]
    texts = [None if value is None else [_text(item) for item in value] for value in lists]
    return pa.array(texts, pa.list_(pa.string()))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, bool):
        return "true" if value else "false"
    return _json(value) if isinstance(value, list | Mapping) else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, default=_text, ensure_ascii=False)
