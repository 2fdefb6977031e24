"""Records, as JSON and Avro files and databases have them, as Arrow columns.

A column has the type of its values. Where they have several, each is written as text, as a CSV file
would hold it; what a cell means is decided later, the same for all sources.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

import pyarrow as pa

from components.data.source_columns import plain

_LARGEST_BESIDE_FLOATS = 2**53  # from there on a float does not hold every integer
_LISTS = (list, tuple)
_TEMPORAL = (date, time, timedelta)


def record_batch(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pa.RecordBatch:
    """Return records as columns; null where a record lacks a name."""
    columns = [column_of([record.get(name) for record in records]) for name in names]
    return pa.RecordBatch.from_arrays(columns, list(names))


def column_of(values: Sequence[Any]) -> pa.Array:
    """Return values as an array; objects (mappings) become JSON text, times with a zone UTC.

    The text of a value does not depend on the other values.
    """
    singles = _single_values(values)
    kinds = set(map(type, singles)) - {type(None)}
    if any(issubclass(kind, Mapping) for kind in kinds):
        values = [_json(value) if isinstance(value, Mapping) else value for value in values]
    if datetime in kinds:
        values = [_in_utc(value) for value in values]
    if not _is_one_type(kinds, singles):
        return _text_column(values)
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


def _single_values(values: Sequence[Any]) -> Sequence[Any]:
    """Return values and the items of lists of any depth."""
    while (kinds := set(map(type, values))) & set(_LISTS):
        is_mixed = bool(kinds - set(_LISTS))
        lists = ((v if type(v) in _LISTS else (v,)) for v in values) if is_mixed else values
        values = list(chain.from_iterable(lists))
    return values


def _is_one_type(kinds: Set[type], values: Sequence[Any]) -> bool:
    """Tell whether Arrow keeps the values apart, if it finds a type for all of them."""
    if kinds == {int, float}:
        return all(abs(value) < _LARGEST_BESIDE_FLOATS for value in values if type(value) is int)
    if any(issubclass(kind, _TEMPORAL) for kind in kinds):
        zones = {value.tzinfo for value in values if isinstance(value, datetime)}
        has_zones = any(isinstance(value, time) and value.tzinfo for value in values)
        return len(kinds) == 1 and len(zones) <= 1 and not has_zones
    return True


def _in_utc(value: Any) -> Any:
    if isinstance(value, _LISTS):
        return [_in_utc(item) for item in value]
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return value


def _text_column(values: Sequence[Any]) -> pa.Array:
    if not any(isinstance(value, _LISTS) for value in values):
        return pa.array([_text(value) for value in values], pa.string())
    lists = [value if value is None or isinstance(value, _LISTS) else [value] for value in values]
    texts = [None if value is None else list(_items(value)) for value in lists]
    return pa.array(texts, pa.list_(pa.string()))


def _items(values: Iterable[Any]) -> Iterator[str | None]:
    for value in values:
        if isinstance(value, _LISTS):
            yield from _items(value)
        else:
            yield _text(value)


def _text(value: Any) -> str | None:
    """Return the text that a value has in a column of its own type; None for NaN."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value != value:  # how pandas writes a missing text
        return None
    if isinstance(value, float | Decimal | date | timedelta) or _is_time_without_zone(value):
        return _arrow_text(value)
    return _json(value) if isinstance(value, list | Mapping) else str(value)


def _arrow_text(value: Any) -> str:
    if isinstance(value, float) and "e" not in repr(value):
        return repr(value).removesuffix(".0")
    try:
        (text,) = plain(pa.array([_in_utc(value)]))[0].cast(pa.string()).to_pylist()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # such as Decimal("NaN")
        return str(value)
    return str(text)


def _is_time_without_zone(value: Any) -> bool:
    return isinstance(value, time) and value.tzinfo is None


def _json(value: Any) -> str:
    return json.dumps(value, default=_text, ensure_ascii=False)
