"""From rows as a source has them to raw examples: one parsing for base data and label deltas.

Sources hand over `SourceRows`: text from CSV files, typed values from the others. `RowParser`
turns them into the columns of raw examples and finds the rows that cannot be used, with reasons.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.data.class_names import ClassNames
from components.data.joined_bytes import join_rows, rows_of
from components.data.raw_columns import ID, WEIGHT
from components.data.raw_values import Flat, flatten, problems_of, read_values
from components.data.source_columns import plain, type_problem
from components.data.times import read_times
from contract.errors import DataError
from contract.model_io import label_key
from contract.schema.data import SPLITS, FeatureConfig
from contract.schema.pipeline import PipelineConfig

Mask = npt.NDArray[np.bool_]

_NUMBER = FeatureConfig(dtype="float32")
_TEXT = FeatureConfig(dtype="string")


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used. `row` counts from 1: lines of a CSV file, rows elsewhere."""

    file: str
    row: int
    reason: str
    found: str
    content: Any


def json_text(value: Any) -> str:
    """Return what JSON has no form for, such as the bytes of a bad row's cells, as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class SourceRows:
    """Consecutive rows of one file; `bad` are rows that the source itself could not read."""

    file: str
    rows: npt.NDArray[np.int64]
    columns: pa.RecordBatch
    bad: tuple[BadRow, ...] = ()


@dataclass(frozen=True)
class ParsedRows:
    """The usable rows as columns of raw examples, and the others.

    `rows` are the positions of the usable ones in what was parsed. `keys` are the sha256 digests
    that identify them: of the key's column, or without one of all features. `groups` are those of
    the group's column, or without one the keys. `marks` say the split, as an index into SPLITS, or
    the time in microseconds; None where a hash decides.
    """

    examples: pa.RecordBatch
    rows: npt.NDArray[np.int64]
    keys: tuple[bytes, ...]
    bad: tuple[BadRow, ...]
    features: dict[str, Flat]
    groups: tuple[bytes, ...]
    marks: npt.NDArray[np.int64] | None

    @property
    def contents(self) -> list[bytes]:
        """The sha256 digests of all features: rows of one content are the same to a model."""
        return content_digests(self.features, len(self.rows))


def content_digests(features: dict[str, Flat], rows: int) -> list[bytes]:
    """Return the sha256 digest of each row's features; their order does not matter."""
    return _digests(_sorted_values(features), rows)


class RowParser:
    """Parses rows by a pipeline's features, heads, weight and key."""

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config
        self._classes = {name: ClassNames.of(head) for name, head in config.heads.items()}
        values: Mapping[str, str] = config.ingest.split.values or {name: name for name in SPLITS}
        self._split_names = ClassNames(tuple(values))
        self._split_of_name = np.array([SPLITS.index(split) for split in values.values()])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a source must have."""
        return required_columns(self._config)

    def parse(self, source: SourceRows) -> ParsedRows:
        """Return the usable rows as raw examples, and the others with the first reason found."""
        verdicts = _Verdicts(source)
        features = {
            name: self._feature(source, name, feature, verdicts)
            for name, feature in self._config.features.items()
        }
        labels = {label_key(head): self._label(source, head, verdicts) for head in self._heads}
        if self._config.weight is not None:
            labels[WEIGHT] = self._weight(source, self._config.weight, verdicts)
        key = self._key(source, "key", verdicts)
        group = self._key(source, "group", verdicts)
        marks = self._marks(source, verdicts)

        good = np.flatnonzero(verdicts.is_good)
        features = {name: flat.take(good) for name, flat in features.items()}
        keys = _digests([key.take(good)] if key else _sorted_values(features), len(good))
        groups = _digests([group.take(good)], len(good)) if group else keys
        columns = {
            name: flat.as_lists()
            for name, flat in (features | {n: f.take(good) for n, f in labels.items()}).items()
        }
        columns[ID] = Flat(np.ones(len(keys), np.int64), _ids(keys)).as_lists()
        examples = pa.RecordBatch.from_pydict(columns)
        bad = (*source.bad, *verdicts.bad_rows())
        marks = None if marks is None else marks[good]
        return ParsedRows(examples, good, tuple(keys), bad, features, tuple(groups), marks)

    def times(self, source: SourceRows) -> npt.NDArray[np.int64]:
        """Return the times in the split's column, without those that cannot be read."""
        verdicts = _Verdicts(source)
        marks = self._marks(source, verdicts)
        assert marks is not None, "only where the split is by time"
        return marks[verdicts.is_good]

    @property
    def _heads(self) -> Iterable[str]:
        return self._config.heads

    def _feature(
        self, source: SourceRows, name: str, feature: FeatureConfig, verdicts: "_Verdicts"
    ) -> Flat:
        column = self._plain(source, name, name, verdicts)
        flat, unreadable = read_values(flatten(column, feature), feature)
        verdicts.add(name, name, unreadable, f"not {_article(feature.dtype)}")
        for reason, rows in problems_of(flat, feature, ~unreadable):
            verdicts.add(name, name, rows, reason)
        return flat

    def _label(self, source: SourceRows, head: str, verdicts: "_Verdicts") -> Flat:
        column, settings = self._config.label_column(head), self._config.heads[head]
        where = f"label '{column}'"
        if settings.task == "regression":
            return self._number(source, column, where, verdicts)
        flat = self._text(source, column, where, verdicts)
        verdicts.add(where, column, flat.lengths == 0, "missing")
        verdicts.add(where, column, flat.lengths > 1, "not a scalar")
        found = _per_value(flat.values, self._classes[head])
        is_unknown = flat.rows_where(found < 0)
        verdicts.add(where, column, is_unknown, f"not one of {_listed(self._classes[head].names)}")
        return Flat(flat.lengths, pa.array(found))

    def _weight(self, source: SourceRows, column: str, verdicts: "_Verdicts") -> Flat:
        flat = self._number(source, column, f"weight '{column}'", verdicts)
        is_negative = flat.rows_where(flat.values.to_numpy(zero_copy_only=False) < 0)
        verdicts.add(f"weight '{column}'", column, is_negative, "below 0")
        return flat

    def _number(self, source: SourceRows, column: str, where: str, verdicts: "_Verdicts") -> Flat:
        values = self._plain(source, column, where, verdicts)
        flat, unreadable = read_values(flatten(values, _NUMBER), _NUMBER)
        verdicts.add(where, column, unreadable, "not a float32")
        for reason, rows in problems_of(flat, _NUMBER, ~unreadable):
            verdicts.add(where, column, rows, reason)
        return flat

    def _key(
        self, source: SourceRows, role: Literal["key", "group"], verdicts: "_Verdicts"
    ) -> Flat | None:
        column: str | None = getattr(self._config.ingest.split, role)
        if column is None:
            return None
        where = f"{role} '{column}'"
        flat = self._text(source, column, where, verdicts)
        verdicts.add(where, column, flat.lengths == 0, "missing")
        return flat

    def _marks(self, source: SourceRows, verdicts: "_Verdicts") -> npt.NDArray[np.int64] | None:
        """Return what decides each row's split, where its hash does not; 0 for bad rows."""
        split = self._config.ingest.split
        if split.by == "hash" or split.column is None:
            return None
        where = f"split '{split.column}'"
        flat = self._text(source, split.column, where, verdicts)
        verdicts.add(where, split.column, flat.lengths == 0, "missing")
        verdicts.add(where, split.column, flat.lengths > 1, "not a scalar")
        if split.by == "time":
            times = read_times(flat.values, split.unit)
            is_unreadable = times.is_null().to_numpy(zero_copy_only=False)
            found = times.fill_null(0).to_numpy()
            reason = f"not an ISO 8601 time, nor a number of {split.unit} since 1970"
        else:
            named = _per_value(flat.values, self._split_names)
            is_unreadable = named < 0
            found = self._split_of_name[named]
            reason = f"not one of {_listed(self._split_names.names)}"
        verdicts.add(where, split.column, flat.rows_where(is_unreadable), reason)
        marks = np.zeros(len(source.rows), np.int64)
        marks[flat.lengths == 1] = found[flat.lengths.repeat(flat.lengths) == 1]
        return marks

    def _text(self, source: SourceRows, column: str, where: str, verdicts: "_Verdicts") -> Flat:
        values = self._plain(source, column, where, verdicts)
        flat, unreadable = read_values(flatten(values, _TEXT), _TEXT)
        verdicts.add(where, column, unreadable, "not text")
        return flat

    def _plain(
        self, source: SourceRows, column: str, where: str, verdicts: "_Verdicts"
    ) -> pa.Array:
        try:
            values, bad = plain(source.columns[column])
        except DataError as error:
            raise DataError(f"{source.file}: column '{column}' {error}") from error
        verdicts.add(where, column, bad, "not UTF-8")
        return values


def required_columns(config: PipelineConfig) -> tuple[str, ...]:
    """Return the columns that a source of a pipeline must have, in the config's order."""
    names = [*config.features, *(config.label_column(head) for head in config.heads)]
    split = config.ingest.split
    others = (config.weight, split.key, split.group, split.column)
    names += [name for name in others if name is not None]
    return tuple(dict.fromkeys(names))


def column_problems(schema: pa.Schema, config: PipelineConfig) -> dict[str, str]:
    """Return by column why its type cannot be read as what the config says it is."""
    features = dict.fromkeys(required_columns(config), _TEXT) | config.features
    numbers = {config.label_column(n) for n, h in config.heads.items() if h.task == "regression"}
    if config.weight is not None:
        numbers.add(config.weight)
    features |= dict.fromkeys(numbers, _NUMBER)
    problems = {name: type_problem(schema.field(name).type, f) for name, f in features.items()}
    return {name: problem for name, problem in problems.items() if problem}


# --- inside -------------------------------------------------------------------------------------

_ID_BYTES = 16  # of a digest; an id is their hexadecimal digits


class _Verdicts:
    """Which rows are bad, each with its first reason."""

    def __init__(self, source: SourceRows) -> None:
        self._source = source
        self.is_good: Mask = np.ones(len(source.rows), np.bool_)
        self._found: dict[int, tuple[str, str]] = {}

    def add(self, where: str, column: str, rows: Mask, reason: str) -> None:
        new = np.flatnonzero(rows & self.is_good)
        self.is_good[new] = False
        for position in new.tolist():
            self._found[position] = (f"{where}: {reason}", column)

    def bad_rows(self) -> list[BadRow]:
        source, rows = self._source, []
        for position, (reason, column) in sorted(self._found.items()):
            row = source.columns.slice(position, 1)
            content = {n: _content(c) for n, c in zip(row.schema.names, row, strict=True)}
            number = int(source.rows[position])
            found = _shown(content[column])
            rows.append(BadRow(source.file, number, reason, found, content))
        return rows


def _content(column: pa.Array) -> Any:
    """Return the one value of a column, whatever its source put there."""
    try:
        return column[0].as_py()
    except (UnicodeDecodeError, ValueError, OverflowError, pa.ArrowException):
        return str(column.cast(pa.binary())[0].as_py()) if _is_text(column) else str(column[0])


def _is_text(column: pa.Array) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _per_value(values: pa.Array, classes: ClassNames) -> npt.NDArray[np.int64]:
    """Return each label's class index, -1 for those that name none."""
    encoded = values.dictionary_encode()
    names = [_decoded(value) for value in encoded.dictionary.to_pylist()]
    found = [None if name is None else classes.index(name) for name in names]
    indices = np.array([-1 if index is None else index for index in found], np.int64)
    places = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return indices[places] if len(places) else np.empty(0, np.int64)


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _digests(columns: Sequence[Flat], rows: int) -> list[bytes]:
    """Return a sha256 digest of each row's values; a missing value differs from an empty one."""
    if not rows:
        return []
    try:
        pieces = [piece for column in columns for piece in column.as_pieces()]
    except OverflowError:
        if rows == 1:
            raise
        parts = np.array_split(np.arange(rows), 2)
        return [
            digest
            for part in parts
            for digest in _digests([column.take(part) for column in columns], len(part))
        ]
    return [hashlib.sha256(row).digest() for row in join_rows(pieces)]


def _ids(keys: Sequence[bytes]) -> pa.Array:
    text = b"".join(key[:_ID_BYTES] for key in keys).hex().encode()
    return rows_of(pa.py_buffer(text), np.arange(len(keys) + 1) * (2 * _ID_BYTES))


def _sorted_values(features: dict[str, Flat]) -> list[Flat]:
    """Return the features by name, so that their order in the config does not matter."""
    return [features[name] for name in sorted(features)]


def _article(dtype: str) -> str:
    return f"an {dtype}" if dtype.startswith("i") else f"a {dtype}"


def _listed(classes: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in classes[:10])
    return shown if len(classes) <= 10 else f"{shown} and {len(classes) - 10} more"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
