"""Rows by column to serialized tf.Examples, to the same bytes every time, without a loop over rows.

The bytes are those of protobuf's deterministic serialization of what tfx_bsl's
`RecordBatchToExamplesEncoder` makes of a batch: features in the order of their names' bytes (a
longer name before those that it begins with), numbers packed, a null row as a feature without a
kind, an empty list as an empty list of its kind.

Wire format: https://protobuf.dev/programming-guides/encoding/. In tensorflow/core/example:
`Example.features` is field 1, an entry of `Features.feature` field 1 with its key in 1 and its
value in 2; `Feature` has `bytes_list` 1, `float_list` 2 and `int64_list` 3, each with `value` 1.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.data.joined_bytes import (
    Integers,
    fixed_width,
    join_rows,
    join_values,
    one_each,
    regrouped,
    rows_of,
    starts,
)

_FIRST, _SECOND = b"\x0a", b"\x12"  # tags of fields 1 and 2 whose values have a length
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = b"\x0a", b"\x12", b"\x1a"
_VARINT_BYTES = 10  # of a negative int64, the longest
_KINDS = {pa.binary(): _BYTES_LIST, pa.float32(): _FLOAT_LIST, pa.int64(): _INT64_LIST}


def can_encode(batch: pa.RecordBatch) -> bool:
    """Tell whether all columns are lists of float32, int64 or bytes, without nulls in the lists."""
    return bool(batch.num_columns) and all(_is_plain(column) for column in batch.columns)


def encode_examples(batch: pa.RecordBatch) -> list[bytes]:
    """Serialize each row of a batch that `can_encode` accepts as a tf.Example.

    Raises:
        OverflowError: If a column of the batch has more than 2 GiB.
    """
    columns = {
        name.encode(): column for name, column in zip(batch.schema.names, batch, strict=True)
    }
    pieces: list[pa.Array] = []
    sizes = np.zeros(batch.num_rows, np.int64)
    for key in sorted(columns, key=_place):
        header, payload = _entry(key, columns[key])
        pieces += [header, payload]
        sizes += _sizes(header) + _sizes(payload)
    return join_rows([one_each(sizes, _sized_first), *pieces])


# --- inside -------------------------------------------------------------------------------------


def _place(name: bytes) -> bytes:
    """Return what names are sorted by: protobuf puts `age_group` before `age`."""
    return name + b"\xff"  # more than any byte of UTF-8


def _is_plain(column: pa.Array) -> bool:
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    return _short(kind.value_type) in _KINDS and not column.values.null_count


def _short(kind: pa.DataType) -> pa.DataType:
    return pa.binary() if pa.types.is_large_binary(kind) else kind


def _entry(key: bytes, column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return the two pieces of a feature in each row: all before its values, and its values."""
    counts = _numpy(column.value_lengths().fill_null(0)).astype(np.int64)
    values = column.flatten()
    kind = _KINDS[_short(values.type)]
    if kind == _BYTES_LIST:
        if pa.types.is_large_binary(values.type):
            values = values.cast(pa.binary())
        lengths = one_each(_sizes(values), _sized_first)
        payload = regrouped(join_values([lengths, values]), counts)
    elif kind == _FLOAT_LIST:
        payload = fixed_width(_numpy(values), counts)
    else:
        payload = _varints(_numpy(values), counts)
    header = partial(_header, key, kind)
    sizes = _sizes(payload)
    if not column.null_count:
        return one_each(sizes, header), payload
    shifted = np.where(_numpy(column.is_null()), 0, sizes + 1)
    return one_each(shifted, _with_null(header, key)), payload


def _with_null(header: Callable[[int], bytes], key: bytes) -> Callable[[int], bytes]:
    """Return what makes headers of sizes counted from 1; 0 is a row without a value."""
    without = _sized_first_of(_sized_first_of(key) + _SECOND + b"\0")
    return lambda size: header(size - 1) if size else without


def _header(key: bytes, kind: bytes, size: int) -> bytes:
    """Return all of an entry but its values, which take `size` bytes."""
    packed = _sized_first(size) if size and kind != _BYTES_LIST else b""
    in_list = len(packed) + size
    values = kind + _varint(in_list) + packed
    feature = _SECOND + _varint(len(values) + size) + values
    return _sized_first(len(_sized_first_of(key) + feature) + size) + _sized_first_of(key) + feature


def _sized_first(size: int) -> bytes:
    return _FIRST + _varint(size)


def _sized_first_of(content: bytes) -> bytes:
    return _sized_first(len(content)) + content


def _varint(number: int) -> bytes:
    digits = []
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def _varints(values: npt.NDArray[np.generic], counts: Integers) -> pa.Array:
    """Return each row's integers as varints, one after the other."""
    numbers = values.astype(np.int64, copy=False).view(np.uint64)
    width = np.ones(len(numbers), np.int64)
    largest = int(numbers.max()) if len(numbers) else 0
    most = max(1, -(-largest.bit_length() // 7))
    for digit in range(1, most):
        width += numbers >= np.uint64(1 << (7 * digit))
    shifts = np.arange(most, dtype=np.uint64) * np.uint64(7)
    digits = (numbers[:, None] >> shifts & np.uint64(0x7F)).astype(np.uint8)
    places = np.arange(most)
    digits |= np.where(places < width[:, None] - 1, 0x80, 0).astype(np.uint8)
    data = digits[places < width[:, None]]
    return rows_of(pa.py_buffer(data), starts(width)[starts(counts)])


def _sizes(column: pa.Array) -> Integers:
    sizes: Integers = _numpy(pc.binary_length(column)).astype(np.int64)
    return sizes


def _numpy(column: pa.Array) -> npt.NDArray[np.generic]:
    array: npt.NDArray[np.generic] = column.to_numpy(zero_copy_only=False)
    return array
