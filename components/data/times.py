"""Dates and times of a column as numbers that compare: microseconds since 1970, in UTC.

Text is ISO 8601 (`2024-01-31`, `2024-01-31 18:30:00.25`, `2024-01-31T18:30+01:00`); without a zone
it is in UTC. Text of a number, which is what every source makes of one, counts units since 1970.
Digits beyond microseconds are cut off.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contract.schema.split import TimeUnit

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MICROS = 10**6
_LEAST, _BEYOND = -62_135_596_800, 253_402_300_800  # seconds of the years 1 to 9999

_CLOCK = r"[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
_ZONE = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
_LOCAL = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}({_CLOCK})?$"
_ZONED = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}{_CLOCK}{_ZONE}$"
_WHOLE = r"^[+-]?([0-9]{1,18}|[0-8][0-9]{18})$"  # within int64
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"


def read_times(values: pa.Array, unit: TimeUnit) -> pa.Array:
    """Return times as int64, null where a value is not a date or time from year 1 to 9999.

    Args:
        values: Text as bytes, as `raw_values.read_values` makes it of every kind of column.
        unit: What numbers count.
    """
    is_ascii = pc.match_substring_regex(values, r"^[\x20-\x7e]+$")
    text = pc.ascii_trim_whitespace(pc.if_else(is_ascii, values, None).cast(pa.string()))
    iso = pc.replace_substring_regex(text, r"(\.[0-9]{6})[0-9]+", r"\1")
    iso = pc.replace_substring_regex(iso, r" ?UTC$", "Z")
    iso = pc.replace_substring_regex(iso, r" ([+-][0-9:]+)$", r"\1")
    found = [
        _timestamps(_matching(iso, _LOCAL), pa.timestamp("us")),
        _timestamps(_matching(iso, _ZONED), pa.timestamp("us", "UTC")),
        _whole(_matching(text, _WHOLE), unit),
        _fractions(_matching(text, _NUMBER), unit),
    ]
    return pc.coalesce(*found)


# --- inside -------------------------------------------------------------------------------------


def _matching(text: pa.Array, pattern: str) -> pa.Array:
    return pc.if_else(pc.match_substring_regex(text, pattern), text, None)


def _timestamps(text: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return text.cast(kind).cast(pa.int64())
    except pa.ArrowInvalid:  # such as February 30: found one by one
        return pa.array([_timestamp(one, kind) for one in text], pa.int64())


def _timestamp(text: pa.Scalar, kind: pa.DataType) -> int | None:
    try:
        value: int | None = text.cast(kind).cast(pa.int64()).as_py()
    except pa.ArrowInvalid:
        return None
    return value


def _whole(text: pa.Array, unit: TimeUnit) -> pa.Array:
    per_second = _PER_SECOND[unit]
    numbers, is_there = _filled(text.cast(pa.int64()))
    is_there &= (numbers >= _LEAST * per_second) & (numbers < _BEYOND * per_second)
    if per_second <= _MICROS:
        numbers = np.where(is_there, numbers, 0) * (_MICROS // per_second)
    else:
        numbers = numbers // (per_second // _MICROS)
    return pa.array(numbers, mask=~is_there)


def _fractions(text: pa.Array, unit: TimeUnit) -> pa.Array:
    seconds, is_there = _filled(text.cast(pa.float64()))
    seconds = seconds / _PER_SECOND[unit]
    is_there &= (seconds >= _LEAST) & (seconds < _BEYOND)
    micros = np.rint(np.where(is_there, seconds, 0.0) * _MICROS).astype(np.int64)
    return pa.array(micros, mask=~is_there)


def _filled(column: pa.Array) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    is_there = column.is_valid().to_numpy(zero_copy_only=False).copy()
    return column.fill_null(0).to_numpy(zero_copy_only=False), is_there
