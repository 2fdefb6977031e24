"""Rows that callers may send and test data need not hold: one real row, one value of it changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contract.records.package import InputSpec
from contract.schema.data import FeatureConfig

Row = Mapping[str, Any]
Value = tuple[str, Any]  # what it is, in words, and what is sent

_MOST_ROWS = 512  # of a model with very many features, the kinds named first
_LONG_TEXT = 100_000
_LONG_LIST = 1_000
_LONG_TEXT_WORDS, _LONG_LIST_WORDS = "a very long text", f"a list of {_LONG_LIST:,} items"
_LEFT_OUT = object()
_FLOAT32 = np.finfo(np.float32)
_INT64 = np.iinfo(np.int64)

_FLOATS: tuple[Value, ...] = (
    ("0", 0.0),
    ("a negative number", -1.0),
    ("1e32", 1e32),
    ("-1e32", -1e32),
    ("the largest float32", float(_FLOAT32.max)),
    ("the least float32", float(_FLOAT32.min)),
    ("the smallest positive float32", float(_FLOAT32.smallest_subnormal)),
)
_INTS: tuple[Value, ...] = (
    ("0", 0),
    ("a negative number", -1),
    ("2**31", 2**31),
    ("2**53 + 1", 2**53 + 1),
    ("the largest int64", int(_INT64.max)),
    ("the least int64", int(_INT64.min)),
)
_TEXTS: tuple[Value, ...] = (
    ("a category never seen", "never seen \u2205"),
    ("the empty text", ""),
    (_LONG_TEXT_WORDS, "long " * (_LONG_TEXT // 5)),
    ("bytes that are no UTF-8", {"b64": "//79/A=="}),
)


@dataclass(frozen=True)
class CallerRow:
    """A row to send.

    Attributes:
        feature: The one whose value was changed; empty where it is more than one.
        what: Its new value in words.
        row: What a caller sends.
        is_beyond: Whether it is a number outside the range that the real rows have.
        is_long: Whether it is a very long text or list.
    """

    feature: str
    what: str
    row: Row
    is_beyond: bool = False
    is_long: bool = False

    @property
    def words(self) -> str:
        """Say what is sent, as `'town': a category never seen`."""
        return f"'{self.feature}': {self.what}" if self.feature else self.what


def caller_rows(
    inputs: Mapping[str, InputSpec],
    features: Mapping[str, FeatureConfig],
    rows: Sequence[Row],
) -> list[CallerRow]:
    """Return the rows, at most 512; none without a real row to begin with.

    Args:
        inputs: What the model takes.
        features: The same in the pipeline's config, for their `minimum` and `maximum`.
        rows: Real rows; the first is the one that is changed.
    """
    if not rows:
        return []
    real = rows[0]
    defaults = {n: v for n, v in real.items() if inputs[n].default is None}
    found = [CallerRow("", "a real row", real), CallerRow("", "all defaults", defaults)]
    changes = {
        name: list(_values(spec, features.get(name), rows[0].get(name)))
        for name, spec in inputs.items()
    }
    for index in range(max(map(len, changes.values()))):
        for name, values in changes.items():
            if index < len(values):
                what, value = values[index]
                found.append(_changed(real, name, what, value, _range(name, rows)))
    return found[:_MOST_ROWS]


def _changed(real: Row, name: str, what: str, value: Any, known: tuple[float, float]) -> CallerRow:
    if value is _LEFT_OUT:
        return CallerRow(name, what, {n: v for n, v in real.items() if n != name})
    numbers = np.array([n for n in leaves(value) if isinstance(n, int | float)], np.float64)
    is_beyond = bool(((numbers < known[0]) | (numbers > known[1])).any())
    is_long = what in (_LONG_TEXT_WORDS, _LONG_LIST_WORDS)
    return CallerRow(name, what, {**real, name: value}, is_beyond, is_long)


def _values(spec: InputSpec, feature: FeatureConfig | None, real: Any) -> Iterator[Value]:
    """Yield the values of one feature, the likeliest first."""
    if spec.default is not None or spec.is_variable_length:
        yield "left out", _LEFT_OUT
    scalars = _scalars(spec, feature)
    if spec.is_variable_length:
        yield "an empty list", []
        for what, value in scalars:
            # The other two are what lists are padded with; callers cannot mean them.
            if what != _LONG_TEXT_WORDS and value not in ("", int(_INT64.min)):
                yield f"a list of {what}", [value]
        item = next(iter(real or []), scalars[0][1])
        yield _LONG_LIST_WORDS, [item] * _LONG_LIST
    else:
        for what, value in scalars:
            yield (f"{what} everywhere" if spec.shape else what), _filled(value, spec.shape)


def _scalars(spec: InputSpec, feature: FeatureConfig | None) -> list[Value]:
    if spec.dtype == "string":
        return list(_TEXTS)
    kind = float if spec.dtype == "float32" else int
    limits = [("its minimum", feature.minimum), ("its maximum", feature.maximum)] if feature else []
    own = [(what, kind(limit)) for what, limit in limits if limit is not None]
    return [*own, *(_FLOATS if spec.dtype == "float32" else _INTS)]


def _filled(value: Any, shape: tuple[int, ...]) -> Any:
    for size in reversed(shape):
        value = [value] * size
    return value


def _range(name: str, rows: Sequence[Row]) -> tuple[float, float]:
    """Return the least and the largest number that the real rows have in a feature."""
    numbers = [n for row in rows for n in leaves(row.get(name)) if isinstance(n, int | float)]
    return (min(numbers), max(numbers)) if numbers else (np.inf, -np.inf)


def leaves(value: Any) -> Iterator[Any]:
    """Yield the single values of a feature's value, as lists of any depth hold them."""
    if isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value
