"""One raw column, from plain Arrow values to a feature's type, and what is wrong with them.

Plain is what `source_columns.plain` returns.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.data.joined_bytes import (
    Integers,
    fixed_width,
    join_values,
    one_each,
    regrouped,
    starts,
)
from components.data.raw_columns import ARROW_TYPES
from contract.schema.data import FeatureConfig

Mask = npt.NDArray[np.bool_]

# 18 digits always fit into an int64; other numbers are read one by one. A trailing '.0' is how
# pandas writes integers of a column that has missing values.
_INTEGER = r"^[+-]?[0-9]{1,18}(\.0*)?$"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_LEAST, _BEYOND = -(2**63), 2**63
_FLOAT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_NOT_FINITE = r"(?i)^[+-]?(nan|inf|infinity)$"


@dataclass(frozen=True)
class Flat:
    """A column of lists: how many values each row has, and all values one after the other.

    A scalar has one value, or none where it is missing.
    """

    lengths: Integers
    values: pa.Array

    @property
    def offsets(self) -> Integers:
        return starts(self.lengths)

    def rows_where(self, values: Mask) -> Mask:
        """Return the rows that have a value for which the mask holds."""
        rows = np.zeros(len(self.lengths), np.bool_)
        if not values.any():
            return rows
        rows[np.repeat(np.arange(len(rows)), self.lengths)[values]] = True
        return rows

    def take(self, rows: Integers) -> "Flat":
        """Return some of the rows."""
        if len(rows) == len(self.lengths):
            return self
        keep = np.zeros(len(self.lengths), np.bool_)
        keep[rows] = True
        return Flat(self.lengths[rows], self.values.filter(pa.array(keep.repeat(self.lengths))))

    def as_lists(self) -> pa.Array:
        """Return a list array with null for rows without a value."""
        offsets = pa.array(self.offsets.astype(np.int32), mask=np.append(self.lengths == 0, False))
        return pa.ListArray.from_arrays(offsets, self.values)

    def as_pieces(self) -> tuple[pa.Array, pa.Array]:
        """Return each row's values as bytes, in two pieces: their number, then they themselves.

        Different rows have different bytes.
        """
        if pa.types.is_binary(self.values.type):
            sizes = pc.binary_length(self.values).to_numpy(zero_copy_only=False).astype(np.int64)
            items = join_values([one_each(sizes, lambda size: b"%d:" % size), self.values])
            joined = regrouped(items, self.lengths)
        else:
            joined = fixed_width(self.values.to_numpy(zero_copy_only=False), self.lengths)
        return one_each(self.lengths, lambda count: b"%d;" % count), joined


def flatten(column: pa.Array, feature: FeatureConfig) -> Flat:
    """Return a plain column as lists of unconverted values; null rows have none.

    Text cells of list features are split at the feature's separator; nested lists are unfolded.
    NaN, where text or an integer should be, is how writers of floats mark a missing value.
    """
    is_list = bool(feature.shape or feature.is_variable_length)
    if pa.types.is_string(column.type) and is_list:
        column = _split(column, feature.separator)
    elif pa.types.is_floating(column.type) and feature.dtype != "float32" and not is_list:
        column = pc.if_else(pc.is_nan(column), None, column)
    count = len(column)
    rows = pa.array(np.arange(count))
    if not _is_list(column.type):
        present = column.is_valid()
        rows, column = rows.filter(present), column.filter(present)
    while _is_list(column.type):
        rows = rows.take(pc.list_parent_indices(column))
        column = pc.list_flatten(column)
    return Flat(np.bincount(rows.to_numpy(), minlength=count).astype(np.int64), column)


def read_values(flat: Flat, feature: FeatureConfig) -> tuple[Flat, Mask]:
    """Convert values to the feature's type; also return the rows that have an unreadable one.

    Unreadable values become 0 or an empty string; empty items of text lists are dropped.
    Non-finite numbers are readable: whether they are welcome is for `problems_of` to say.
    """
    values = flat.values
    target = ARROW_TYPES[feature.dtype]
    if feature.dtype == "string":
        converted = _as_text(values)
    elif pa.types.is_string(values.type):
        converted = _numbers_from_text(values, target)
    else:
        converted = _numbers(values, target)
    is_unreadable = converted.is_null().to_numpy(zero_copy_only=False)
    filler: Any = b"" if feature.dtype == "string" else 0
    read = Flat(flat.lengths, converted.fill_null(pa.scalar(filler, target)))
    if feature.dtype == "string" and feature.is_variable_length:
        read = _without_empty(read)
    return read, flat.rows_where(is_unreadable)


def problems_of(flat: Flat, feature: FeatureConfig, rows: Mask) -> list[tuple[str, Mask]]:
    """Return what is wrong with readable rows: reasons, each with the rows that it is true of."""
    size = int(np.prod(feature.shape)) if feature.shape else 1
    problems = []
    if not feature.is_variable_length:
        if feature.default is None:
            problems.append(("missing, without a default", rows & (flat.lengths == 0)))
        wrong = (flat.lengths != size) & (flat.lengths != 0)
        expected = f"of shape {list(feature.shape)}" if feature.shape else "a scalar"
        problems.append((f"not {expected}", rows & wrong))
    if feature.dtype == "string":
        return problems
    values = flat.values.to_numpy(zero_copy_only=False)
    problems.append(("not a finite number", rows & flat.rows_where(~np.isfinite(values))))
    if feature.minimum is not None:
        below = rows & flat.rows_where(values < feature.minimum)
        problems.append((f"below the minimum {feature.minimum:g}", below))
    if feature.maximum is not None:
        above = rows & flat.rows_where(values > feature.maximum)
        problems.append((f"above the maximum {feature.maximum:g}", above))
    return problems


# --- inside -------------------------------------------------------------------------------------


def _split(column: pa.Array, separator: str) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(column)
    trimmed = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    if separator == " ":
        return pc.utf8_split_whitespace(trimmed)
    return pc.split_pattern(trimmed, separator)


def _as_text(values: pa.Array) -> pa.Array:
    """Return bytes, null where the text is missing."""
    if pa.types.is_floating(values.type):
        # 3.0 is the category '3', however the file's writer came to store it as a float.
        text = pc.replace_substring_regex(_digits(values), r"\.0$", "")
        return pc.if_else(pc.is_nan(values), None, text).cast(pa.binary())
    if pa.types.is_binary(values.type):
        return values
    return values.cast(pa.string()).cast(pa.binary())


def _digits(values: pa.Array) -> pa.Array:
    """Return floats as text, as Python writes them: below 1e16 without an exponent."""
    text = values.cast(pa.string())
    if not pc.any(pc.match_substring(text, "e+")).as_py():  # as Arrow writes 1e10 and more
        return text
    encoded = text.dictionary_encode()
    written = [_below_1e16(one) for one in encoded.dictionary.to_pylist()]
    return pa.array(written, pa.string()).take(encoded.indices)


def _below_1e16(text: str) -> str:
    is_long = "e+" in text and Decimal(text).adjusted() < 16
    return f"{Decimal(text):f}" if is_long else text


def _without_empty(flat: Flat) -> Flat:
    """Drop empty text from lists: a served model cannot tell it from padding."""
    is_kept = pc.not_equal(flat.values, pa.scalar(b"", pa.binary())).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(flat.lengths)), flat.lengths)[is_kept]
    lengths = np.bincount(rows, minlength=len(flat.lengths)).astype(np.int64)
    return Flat(lengths, flat.values.filter(pa.array(is_kept)))


def _numbers_from_text(values: pa.Array, target: pa.DataType) -> pa.Array:
    """Return numbers, null where the text is none."""
    if (quick := _common_numbers(values, target)) is not None:
        return quick
    text = pc.utf8_trim_whitespace(values)
    if pa.types.is_integer(target):
        return _integers_from_text(text)
    is_not_finite = pc.match_substring_regex(text, _NOT_FINITE)
    is_number = pc.match_substring_regex(text, _FLOAT)
    text = pc.replace_substring_regex(pc.if_else(is_not_finite, "nan", text), r"^\+", "")
    return pc.if_else(pc.or_(is_number, is_not_finite), text, None).cast(target)


def _common_numbers(values: pa.Array, target: pa.DataType) -> pa.Array | None:
    """Return numbers, if Arrow reads every text as one that means the same to us; else None.

    Arrow takes fewer texts than we do, beside hexadecimal integers and numbers that are not finite.
    """
    try:
        numbers = values.cast(target)
    except pa.ArrowInvalid:
        return None
    if pa.types.is_integer(target):
        is_odd = pc.match_substring(values, "x", ignore_case=True)
    else:
        is_odd = pc.invert(pc.is_finite(numbers))
    return None if pc.any(is_odd).as_py() else numbers


def _integers_from_text(text: pa.Array) -> pa.Array:
    """Return int64 by value: `1e3` and `5.0` are integers; null where the text is none."""
    is_short = pc.match_substring_regex(text, _INTEGER)
    digits = pc.replace_substring_regex(text, r"(^\+)|(\.0*$)", "")
    integers = pc.if_else(is_short, digits, None).cast(pa.int64())
    others = pc.and_(pc.invert(is_short), text.is_valid()).to_numpy(zero_copy_only=False)
    if not others.any():
        return integers
    read = [_integer(one) for one in text.filter(pa.array(others)).to_pylist()]
    return pc.replace_with_mask(integers, pa.array(others), pa.array(read, pa.int64()))


def _integer(text: str) -> int | None:
    """Return an integer within int64, or None where the text says something else."""
    if not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    if number and number.adjusted() > 18:  # before it is written out: 1e999999999
        return None
    if number and number.as_tuple().exponent < -len(text):  # type: ignore[operator]  # 1e-999999999
        return None
    value = int(number)
    return value if value == number and _LEAST <= value < _BEYOND else None


def _numbers(values: pa.Array, target: pa.DataType) -> pa.Array:
    """Return numbers, null where a value is not a number or, for integers, has a fraction."""
    if pa.types.is_null(values.type):
        return values.cast(target)
    is_numeric = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    if not (is_numeric or pa.types.is_boolean(values.type)):
        return pa.nulls(len(values), target)
    if pa.types.is_integer(target) and pa.types.is_uint64(values.type):
        values = pc.if_else(pc.less(values, pa.scalar(2**63, pa.uint64())), values, None)
    if pa.types.is_integer(target) and pa.types.is_floating(values.type):
        # Beyond 2**53 a float64 does not hold every integer: such a value is a guess.
        is_whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
        values = pc.if_else(is_whole, values, None)
    return values.cast(target, safe=False)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
