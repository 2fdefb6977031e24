"""From JSON to arrays: every value checked against the manifest's inputs, every refusal in words.

The common case is checked a level at a time with C loops (`set(map(type, ...))`); only when that
finds a fault are the values walked one by one, to say which it was.
"""

import math
from array import array
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from contract.errors import did_you_mean
from contract.model_io import NUMPY_DTYPES
from contract.records.package import InputSpec
from serving.server.requests.base64_text import bytes_of_base64
from serving.server.requests.errors import SHOWN_CHARACTERS, InvalidInputError, TooLargeError

_LEAVES: dict[str, frozenset[type]] = {
    "float32": frozenset((int, float)),
    "int64": frozenset((int,)),
    "string": frozenset((str,)),
}
_JSON_NAMES = {
    bool: "a boolean",
    dict: "an object",
    float: "a number",
    int: "a whole number",
    list: "a list",
    str: "a string",
    type(None): "null",
}
_INT64 = np.iinfo(np.int64)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Limits:
    """What one request may ask for; checked before anything is made of it.

    Attributes:
        rows: Most rows.
        cells: Most values of one variable-length input, rows times the longest list.
        pads_examples: Whether the model makes variable-length inputs of text, as of tf.Examples:
            then rows times the longest text are limited, too, in bytes, of which a value has one.
    """

    rows: int = 1 << 62
    cells: int = 1 << 62
    pads_examples: bool = False


class InputReader:
    """Reads the rows or columns of a request for one set of inputs."""

    def __init__(self, inputs: Mapping[str, InputSpec], limits: Limits = Limits()) -> None:
        self._columns = {name: _Column(name, spec, limits) for name, spec in inputs.items()}
        self._max_rows = limits.rows
        self._names = frozenset(inputs)
        self._only = next(iter(inputs)) if len(inputs) == 1 else None

    def read_rows(self, instances: Any, key: str = "instances") -> dict[str, np.ndarray]:
        """Return one array `[rows, ...]` per input from row objects, or from bare values.

        A bare value stands for the object where the model has exactly one input. A value that is
        missing or null becomes the input's default; a missing list an empty one.

        Raises:
            InvalidInputError: With the place, what was found and what was expected.
        """
        if type(instances) is not list or not instances:
            raise _bad(key, instances, "a list of at least one row")
        self._check_rows(key, len(instances))
        if self._are_bare(instances):
            return {str(self._only): self._columns[str(self._only)].read(instances, key, False)}
        for index, row in enumerate(instances):
            if type(row) is not dict:
                raise _bad(f"{key}[{index}]", row, f"an object with {self._expected()}")
            if not row.keys() <= self._names:
                raise self._unknown(f"{key}[{index}]", row)
        return {
            name: column.read([row.get(name) for row in instances], key, True)
            for name, column in self._columns.items()
        }

    def read_columns(self, inputs: Any, key: str = "inputs") -> dict[str, np.ndarray]:
        """Return one array `[rows, ...]` per input from lists by name, or from one bare list.

        Raises:
            InvalidInputError: Also where columns differ in length.
        """
        if type(inputs) is not dict or _is_base64(inputs):
            if self._only is None:
                raise _bad(key, inputs, f"an object with {self._expected()}")
            inputs = {self._only: inputs}
        if not inputs.keys() <= self._names:
            raise self._unknown(key, inputs)
        for name, values in inputs.items():
            if type(values) is not list or not values:
                raise _bad(f"{key}.{name}", values, "a list of at least one row")
        sizes = {name: len(values) for name, values in inputs.items()}
        if len(set(sizes.values())) > 1:
            raise InvalidInputError(f"{key}: columns differ in length: {sizes}")
        rows = next(iter(sizes.values()), 0)
        if rows == 0:
            raise _bad(key, inputs, f"an object with {self._expected()}")
        self._check_rows(key, rows)
        return {
            name: column.read(inputs.get(name) or [None] * rows, f"{key}.{name}", False)
            for name, column in self._columns.items()
        }

    def _check_rows(self, key: str, rows: int) -> None:
        if rows > self._max_rows:
            raise TooLargeError(
                f"{key}: found {rows:,} rows, at most {self._max_rows:,} are accepted in a request "
                "(serve.max_batch_size x serve.max_enqueued_batches); send several"
            )

    def _are_bare(self, instances: list[Any]) -> bool:
        first = instances[0]
        return self._only is not None and (type(first) is not dict or _is_base64(first))

    def _unknown(self, where: str, row: dict[str, Any]) -> InvalidInputError:
        name = next(name for name in row if name not in self._names)[:SHOWN_CHARACTERS]
        hint = did_you_mean(name, self._names) or f"; expected {self._expected()}"
        return InvalidInputError(f"{where}: unknown input '{name}'{hint}")

    def _expected(self) -> str:
        return ", ".join(f"'{name}'" for name in self._columns)


class _Column:
    """One input: its checks, and its array."""

    def __init__(self, name: str, spec: InputSpec, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._spec = spec
        self._leaves = _LEAVES[spec.dtype]
        self._dtype = NUMPY_DTYPES[spec.dtype]

    def read(self, values: list[Any], key: str, is_row: bool) -> np.ndarray:
        """Return the array of all rows' values; `key` and `is_row` say how messages name places."""
        if None in values:
            values = self._filled(values, key, is_row)
        read = self._variable if self._spec.is_variable_length else self._fixed
        if self._spec.is_variable_length and set(map(type, values)) == {list}:
            self._check_cells(values, key, "list")
        if (found := read(values)) is None:
            raise self._explain(values, key, is_row)
        if self._limits.pads_examples:
            self._check_cells(found, key, "text")
        return found

    def _check_cells(self, values: Sequence[Sized] | np.ndarray, key: str, what: str) -> None:
        """Refuse rows that would be padded to more than the model may be given at once."""
        widest = max(map(len, values))
        if len(values) * widest > self._limits.cells:
            raise TooLargeError(
                f"{key}: '{self._name}' would be padded to {len(values):,} rows x {widest:,} "
                f"(its longest {what}), at most {self._limits.cells:,} values are accepted "
                f"(serve.max_cells); send shorter ones, or fewer rows"
            )

    def _filled(self, values: list[Any], key: str, is_row: bool) -> list[Any]:
        spec = self._spec
        default: Any = [] if spec.is_variable_length else spec.default
        if default is None:
            where = self._place(key, values.index(None), is_row)
            raise InvalidInputError(
                f"{where}: missing, without a default; expected {self._expected()}"
            )
        return [default if value is None else value for value in values]

    def _fixed(self, values: list[Any]) -> np.ndarray | None:
        level = values
        for size in self._spec.shape:
            if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
                return None
            level = level[0] if len(level) == 1 else list(chain.from_iterable(level))
        flat = self._flat(level)
        return flat if flat is None else flat.reshape(len(values), *self._spec.shape)

    def _variable(self, values: list[Any]) -> np.ndarray | None:
        if set(map(type, values)) != {list}:
            return None
        flat = self._flat(list(chain.from_iterable(values)))
        if flat is None:
            return None
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        is_value = np.arange(lengths.max()) < lengths[:, None]
        padded = np.full(is_value.shape, self._spec.filler, self._dtype)
        padded[is_value] = flat
        return padded

    def _flat(self, leaves: list[Any]) -> np.ndarray | None:
        """Return the leaves as an array, or None if one of them is wrong."""
        if self._spec.dtype == "string":
            return _text_array(leaves)
        if not self._leaves.issuperset(map(type, leaves)):
            return None
        try:
            if self._spec.dtype == "float32" and leaves:  # in two thirds of numpy's time
                flat = np.frombuffer(array("f", leaves), np.float32)
            else:
                flat = np.array(leaves, self._dtype)
        except OverflowError:
            return None
        return flat if self._is_fit(flat) else None

    def _is_fit(self, flat: np.ndarray) -> bool:
        if self._spec.dtype == "int64":
            # The padding of variable-length rows would be dropped if it came as a value.
            return not self._spec.is_variable_length or bool((flat != self._spec.padding).all())
        # A finite sum of squares proves all items finite in a quarter of the time; it may overflow.
        return math.isfinite(flat.dot(flat)) or bool(np.isfinite(flat).all())

    def _explain(self, values: list[Any], key: str, is_row: bool) -> InvalidInputError:
        for index, value in enumerate(values):
            where = self._place(key, index, is_row)
            shape = (None,) if self._spec.is_variable_length else self._spec.shape
            if (fault := self._fault(value, where, shape)) is not None:
                return fault
        return InvalidInputError(f"{key}: '{self._name}' is not {self._expected()}")

    def _fault(
        self, value: Any, where: str, shape: tuple[int | None, ...]
    ) -> InvalidInputError | None:
        if not shape:
            return self._leaf_fault(value, where)
        if type(value) is not list:
            return _bad(where, value, self._expected())
        if shape[0] is not None and len(value) != shape[0]:
            return InvalidInputError(
                f"{where}: found {len(value)} items, expected {shape[0]}: {self._expected()}"
            )
        faults = (self._fault(v, f"{where}[{i}]", shape[1:]) for i, v in enumerate(value))
        return next((fault for fault in faults if fault is not None), None)

    def _leaf_fault(self, value: Any, where: str) -> InvalidInputError | None:
        if self._spec.dtype == "string":
            return self._text_fault(value, where)
        if type(value) not in self._leaves:
            return _bad(where, value, self._expected())
        if self._spec.dtype == "int64":
            is_fit = _INT64.min + self._spec.is_variable_length <= value <= _INT64.max
        else:
            is_fit = abs(value) <= _FLOAT32_MAX
        if is_fit:
            return None
        return InvalidInputError(f"{where}: {value} does not fit into {self._spec.dtype}")

    def _text_fault(self, value: Any, where: str) -> InvalidInputError | None:
        if type(value) is not str and not _is_base64(value):
            return _bad(where, value, self._expected())
        try:
            _bytes(value)
        except ValueError as error:
            return InvalidInputError(f"{where}.b64: not base64: {error}")
        return None

    def _place(self, key: str, index: int, is_row: bool) -> str:
        return f"{key}[{index}].{self._name}" if is_row else f"{key}[{index}]"

    def _expected(self) -> str:
        """Describe the input, as in `float32 of shape [8, 8]`."""
        if self._spec.is_variable_length:
            return f"a list of {self._spec.dtype}, of any length"
        if self._spec.shape:
            return f"{self._spec.dtype} of shape {list(self._spec.shape)}"
        return f"a single {self._spec.dtype}"


def _is_base64(value: Any) -> bool:
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def _bytes(value: Any) -> bytes:
    """Return the bytes of a string or of a base64 object.

    Raises:
        ValueError: If it is none of them, or no base64.
    """
    if type(value) is str:
        return value.encode()
    if not _is_base64(value):
        raise ValueError("expected a string")
    return bytes_of_base64(value["b64"])


def _text_array(leaves: list[Any]) -> np.ndarray | None:
    """Return the leaves as an array of bytes, or None if one of them is wrong."""
    texts = np.empty(len(leaves), object)
    try:
        texts[:] = [v.encode() if type(v) is str else _bytes(v) for v in leaves]
    except ValueError:
        return None
    return texts


def _bad(where: str, found: Any, expected: str) -> InvalidInputError:
    name = _JSON_NAMES.get(type(found), "nothing")
    if type(found) in (list, dict) and not found:
        name = f"an empty {'list' if type(found) is list else 'object'}"
    elif type(found) in (str, int, float):
        name += f" ({str(found)[:40]!r})" if type(found) is str else f" ({found})"
    return InvalidInputError(f"{where}: found {name}, expected {expected}")
