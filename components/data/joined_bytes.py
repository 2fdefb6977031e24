"""Bytes of many rows, built column by column: pieces that Arrow joins to one string a row."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Integers = npt.NDArray[np.int64]

_LARGEST = 2**31 - 1  # bytes that one Arrow array of type binary holds
_TABLE = 1 << 16  # numbers below it are looked up in a table, not sorted


def join_rows(pieces: Sequence[pa.Array]) -> list[bytes]:
    """Return each row's pieces, one after the other.

    Args:
        pieces: Binary arrays `[rows]` without nulls; at least one.
    """
    if sum(piece.nbytes for piece in pieces) > _LARGEST // 2 and len(pieces[0]) > 1:
        half = len(pieces[0]) // 2
        first, second = ([p.slice(*s) for p in pieces] for s in ((0, half), (half,)))
        return join_rows(first) + join_rows(second)
    return pc.binary_join_element_wise(*pieces, b"").to_pylist()  # type: ignore[no-any-return]


def join_values(pieces: Sequence[pa.Array]) -> pa.Array:
    """Return the pieces of each value joined, as one binary array.

    Raises:
        OverflowError: If that is too much for one array.
    """
    if sum(piece.nbytes for piece in pieces) > _LARGEST:
        raise OverflowError("more bytes than one Arrow array holds")
    return pc.binary_join_element_wise(*pieces, b"")


def one_each(numbers: Integers, piece: Callable[[int], bytes]) -> pa.Array:
    """Return `piece(number)` for each number (at least 0) as a binary array.

    It is called once for each different number.
    """
    if len(numbers) and int(numbers.max()) < _TABLE:
        different = np.flatnonzero(np.bincount(numbers))
        places = np.zeros(_TABLE, np.int32)
        places[different] = np.arange(len(different), dtype=np.int32)
        indices = places[numbers]
    else:
        different, inverse = np.unique(numbers, return_inverse=True)
        indices = inverse.astype(np.int32)
    pieces = pa.array([piece(number) for number in different.tolist()], pa.binary())
    return pieces.take(pa.array(indices))


def fixed_width(values: npt.NDArray[np.generic], lengths: Integers) -> pa.Array:
    """Return the little-endian bytes of each row's numbers; `lengths` says how many it has."""
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    return rows_of(pa.py_buffer(little), starts(lengths) * values.dtype.itemsize)


def rows_of(data: pa.Buffer, offsets: Integers) -> pa.Array:
    """Return a binary array: row n is `data` from `offsets[n]` to `offsets[n + 1]`.

    Raises:
        OverflowError: If that is too much for one array.
    """
    if offsets[-1] > _LARGEST:
        raise OverflowError("more bytes than one Arrow array holds")
    begins = pa.py_buffer(offsets.astype(np.int32))
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, [None, begins, data])


def regrouped(values: pa.Array, lengths: Integers) -> pa.Array:
    """Return a binary array of rows; each is so many consecutive values joined."""
    if len(values) == len(lengths) and bool((lengths == 1).all()):
        return values
    return rows_of(values.buffers()[2], value_starts(values)[starts(lengths)])


def starts(lengths: Integers) -> Integers:
    """Return where each of consecutive pieces begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def value_starts(values: pa.Array) -> Integers:
    """Return where in its buffer each value of a binary array begins, and where the last ends."""
    begins = np.frombuffer(values.buffers()[1], np.int32)
    return begins[values.offset : values.offset + len(values) + 1].astype(np.int64)
