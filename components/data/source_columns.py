"""From a column of any Arrow type to one of a few plain ones; the same for every source.

Plain are text, bytes, integers, floating-point numbers, truth values, and lists of them (of any
depth). What a source reads is brought into this form here, and nowhere else:

* views, large, dictionary- and run-length-encoded columns, and extension types (UUID, JSON,
  tensors) become what they stand for;
* decimals become text with all their digits, so that integers keep their value;
* dates, times and timestamps become ISO 8601 text, as a CSV file would hold them.

Maps, structs, unions and intervals have no place in an example: `type_problem` refuses them.
"""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contract.errors import DataError
from contract.schema.data import FeatureConfig

Mask = npt.NDArray[np.bool_]
_NOT_UTF8 = object()
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def plain(column: pa.Array) -> tuple[pa.Array, Mask]:
    """Return a column in its plain form, and the rows that hold text that is not UTF-8.

    Such rows are null in what is returned.

    Raises:
        DataError: If the column is of a type that `type_problem` refuses.
    """
    if problem := type_problem(column.type):
        raise DataError(problem)
    if not _holds_text(column.type) or _is_valid(column):
        return _plain(column), np.zeros(len(column), np.bool_)
    rows = [_row(row) for row in column]
    bad = np.array([row is _NOT_UTF8 for row in rows], np.bool_)
    return _plain(pa.array([None if row is _NOT_UTF8 else row for row in rows])), bad


def type_problem(kind: pa.DataType, feature: FeatureConfig | None = None) -> str:
    """Return why a column of a type cannot be read (as a feature), or "" if it can."""
    item = _item_type(kind)
    if _is_nested(item):
        name = "a map" if pa.types.is_map(item) else f"a {str(item).split('<')[0].split('[')[0]}"
        return f"is {name} ({kind}); expected text, numbers or lists of them: flatten it first"
    if feature is None or feature.dtype == "string":
        return ""
    if pa.types.is_temporal(item):
        return (
            f"is {kind}; expected {feature.dtype}: declare the feature as string, or convert the "
            "column to a number (such as seconds since 1970)"
        )
    if _is_bytes(item):
        return f"is {kind}; expected {feature.dtype}: convert the column to numbers or text"
    return ""


def partition_columns(path: Path) -> Mapping[str, str | None]:
    """Return what the folders of a path say, as in `year=2024/month=3/part-0.parquet` (Hive)."""
    pairs = (part.partition("=") for part in path.parts[:-1] if "=" in part)
    found = {unquote(name): unquote(value) for name, _, value in pairs if name.strip()}
    return {name: None if value == _NO_PARTITION else value for name, value in found.items()}


def with_partitions(batch: pa.RecordBatch, path: Path) -> pa.RecordBatch:
    """Append the columns that the folders of a path say, as text; the file's own come first."""
    for name, value in partition_columns(path).items():
        if name not in batch.schema.names:
            batch = batch.append_column(name, pa.array([value] * batch.num_rows, pa.string()))
    return batch


# --- inside -------------------------------------------------------------------------------------


def _plain(column: pa.Array) -> pa.Array:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _from_extension(column)
    if pa.types.is_dictionary(kind):
        return _plain(column.dictionary).take(column.indices)
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(column))
    if _is_list(kind):
        return _plain_list(column)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if _is_bytes(kind):
        return column.cast(pa.binary())
    if pa.types.is_decimal(kind):
        text = pc.replace_substring_regex(_digits(column), r"(\.[0-9]*?)0+$", r"\1")
        return pc.replace_substring_regex(text, r"\.$", "")
    if pa.types.is_temporal(kind):
        return _iso_text(column)
    return column.cast(pa.float32()) if pa.types.is_float16(kind) else column


def _digits(column: pa.Array) -> pa.Array:
    """Return decimals as text without exponents, which depend on the scale of the type."""
    text = column.cast(pa.string())
    if not pc.any(pc.match_substring(text, "E")).as_py():
        return text
    return pa.array([None if v is None else f"{v:f}" for v in column.to_pylist()], pa.string())


def _plain_list(column: pa.Array) -> pa.Array:
    """Return a list array with 64-bit offsets; rows that are null stay so."""
    rows, count = _parents(column), len(column)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))]).astype(np.int64)
    mask = np.append(column.is_null().to_numpy(zero_copy_only=False), False)
    return pa.LargeListArray.from_arrays(pa.array(offsets, mask=mask), _plain(column.flatten()))


def _parents(column: pa.Array) -> npt.NDArray[np.int64]:
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(column)), lengths)


def _from_extension(column: pa.Array) -> pa.Array:
    if str(column.type.extension_name) == "arrow.uuid":
        values = column.storage.to_pylist()
        text = [None if v is None else str(uuid.UUID(bytes=v)) for v in values]
        return pa.array(text, pa.string())
    return _plain(column.storage)


def _iso_text(column: pa.Array) -> pa.Array:
    """Return dates and times as text, without the zeros that only say how precise the type is."""
    try:
        text = column.cast(pa.string())
    except pa.ArrowException:  # a time zone that this machine does not know: as it is, in UTC
        text = column.cast(pa.timestamp(column.type.unit)).cast(pa.string())
    text = pc.replace_substring_regex(text, r"\.0+([+Z-].*)?$", r"\1")
    return pc.replace_substring_regex(text, r"(\.[0-9]*[1-9])0+([+Z-].*)?$", r"\1\2")


def _item_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of single values, below lists and encodings."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind) or _is_list(kind):
            kind = kind.value_type
        else:
            return kind


def _is_nested(kind: pa.DataType) -> bool:
    is_interval = kind == pa.month_day_nano_interval()
    return bool(pa.types.is_nested(kind) and not _is_list(kind)) or is_interval


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    is_view = types.is_list_view(kind) or types.is_large_list_view(kind)
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list or is_view)


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    is_short = types.is_binary(kind) or types.is_fixed_size_binary(kind)
    return bool(is_short or types.is_large_binary(kind) or types.is_binary_view(kind))


def _holds_text(kind: pa.DataType) -> bool:
    item, types = _item_type(kind), pa.types
    return bool(types.is_string(item) or types.is_large_string(item) or types.is_string_view(item))


def _is_valid(column: pa.Array) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _row(row: pa.Scalar) -> Any:
    try:
        return row.as_py()
    except UnicodeDecodeError:
        return _NOT_UTF8
