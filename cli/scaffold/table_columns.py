"""What the columns of a table are: numbers, categories, or nothing that a model can learn from.

The cells are read by the reader of the file's kind and converted by the rules of `ingest`, so that
a column which is called an int64 here has no row that `ingest` could not read as one.
"""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from contract.errors import DataError, did_you_mean
from contract.schema.data import CsvSource, FeatureConfig
from contract.schema.source import SourceSection

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

Dtype = Literal["float32", "int64", "string"]

_DELIMITERS = ",;\t|"
_MISSING_WORDS = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")
_MOST_DISTINCT_RATIO = 0.5  # more different texts than this per row: an identifier or free text
_FEW_ROWS = 20  # too few to tell an identifier from a category
_KINDS = {  # by the end of a file's name, packed or not; the others are CSV
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".orc": "orc",
    ".avro": "avro",
    ".tfrecord": "tfrecord",
}
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4")
_IDENTIFIER = re.compile(r"(?i)^(id|.*_id|.*\sid|uuid|row|index)$|[a-z]I[dD]$")


@dataclass(frozen=True)
class Column:
    """One column of a table. `median` is of the numbers, `counts` of the texts as written."""

    name: str
    dtype: Dtype
    rows: int
    missing: int
    counts: Counter[str] = field(repr=False)
    median: float | None = None
    mean: float = 0.0
    deviation: float = 1.0
    is_single: bool = True

    @property
    def no_feature_because(self) -> str:
        """Why a model cannot learn from this column; empty where it can."""
        if not self.is_single:
            return "holds lists, objects or bytes: declare it by hand"
        if len(self.counts) == 0:
            return "has no values"
        if len(self.counts) == 1 and not self.missing:
            return "has the same value in each row"
        distinct, many = len(self.counts), self.rows > _FEW_ROWS
        if many and self.dtype == "string" and distinct > _MOST_DISTINCT_RATIO * self.rows:
            return f"has {distinct:,} different texts in {self.rows:,} rows: an id or free text"
        if many and distinct == self.rows and _IDENTIFIER.search(self.name):
            return "is an identifier: it differs in each row"
        return ""


@dataclass(frozen=True)
class TableFile:
    """A file, how it is read, and what its columns are."""

    source: SourceSection
    rows: int
    columns: dict[str, Column]

    @property
    def path(self) -> Path:
        """Where the file is."""
        (path,) = self.source.paths
        return Path(path)


def read_table(
    path: Path, label: str, is_stripped: bool = True, texts: Collection[str] = ()
) -> TableFile:
    """Read a file and tell what each column is.

    Args:
        path: The file, of the kind that its name says, or CSV with a header line.
        label: A column that must be there: the delimiter of CSV is the one that finds it.
        is_stripped: Remove white space around each cell.
        texts: Columns whose cells are text, also where they look like numbers.

    Raises:
        DataError: If the file is missing, broken, empty or without a row, or lacks the label.
    """
    import pyarrow as pa

    from components.data.csv_files import read_csv

    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a file of rows")
    ends = [end for end in map(str.lower, path.suffixes) if end not in _PACKED]
    kind = _KINDS.get(ends[-1], "csv") if ends else "csv"
    if kind != "csv":
        return _read_typed(path, kind, label, texts)
    source = _with_delimiter(path, label, is_stripped)
    table = pa.Table.from_batches([batch.columns for batch in read_csv(path, source)])
    words = _missing_words(table.drop_columns([n for n in table.column_names if n in texts]))
    source = source.model_copy(update={"missing": ("", *words)})
    columns = {
        name: _column(name, table[name], words, is_text=name in texts)
        for name in table.column_names
    }
    return TableFile(source, table.num_rows, columns)


def _read_typed(path: Path, kind: str, label: str, texts: Collection[str]) -> TableFile:
    """Read a file that has types, each value as the text that a CSV file would hold."""
    import pyarrow as pa

    from components.ingest.sources import module_of
    from contract.schema.data import SOURCE_KINDS, Source

    source = cast(Source, SOURCE_KINDS[kind](kind=kind, files=(str(path),)))  # type: ignore[call-arg]
    names = module_of(source).columns(source, path)
    if label not in names:
        raise DataError(
            f"{path}: no column '{label}'{did_you_mean(label, names)} (columns: {', '.join(names)})"
        )
    cells: dict[str, list[pa.Array]] = {name: [] for name in names}
    others: set[str] = set()
    for batch in module_of(source).read(source, path):
        for name in names:
            found = _cells(batch.columns[name])
            if found is None:
                others.add(name)
            cells[name].append(pa.nulls(len(batch.rows), pa.string()) if found is None else found)
    if label in others:
        raise DataError(f"label '{label}': holds lists, objects or bytes; expected single values")
    columns = {}
    for name, chunks in cells.items():
        column = _column(name, pa.chunked_array(chunks), (), is_text=name in texts)
        columns[name] = replace(column, is_single=name not in others)
    return TableFile(source, columns[label].rows, columns)


def _cells(column: "pa.Array") -> "pa.Array | None":
    """Return each row's value as text; None if a row has several, or what is no text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from components.data.raw_values import flatten, read_values
    from components.data.source_columns import plain

    feature = FeatureConfig(dtype="string")
    try:
        flat, _ = read_values(flatten(plain(column)[0], feature), feature)
        if (flat.lengths > 1).any():
            return None
        return pc.list_element(flat.as_lists(), 0).cast(pa.string())
    except (DataError, pa.ArrowInvalid):
        return None


def _with_delimiter(path: Path, label: str, is_stripped: bool) -> CsvSource:
    from components.data.csv_files import read_header

    found: dict[str, tuple[str, ...]] = {}
    for delimiter in _DELIMITERS:
        source = CsvSource(
            kind="csv", files=(str(path),), delimiter=delimiter, is_stripped=is_stripped
        )
        found[delimiter] = read_header(path, source)
        if label in found[delimiter]:
            return source
    columns = max(found.values(), key=len)
    raise DataError(
        f"{path}: no column '{label}'{did_you_mean(label, columns)} (columns: {', '.join(columns)})"
    )


def _missing_words(table: "pa.Table") -> tuple[str, ...]:
    """Return words that say 'no value' in columns of numbers, such as NA."""
    found: set[str] = set()
    for column in table.columns:
        texts = set(column.unique().to_pylist()) - {None}
        words = texts & set(_MISSING_WORDS)
        if words and (texts - words) and _dtype_of(_without(column, tuple(words))) != "string":
            found |= words
    return tuple(word for word in _MISSING_WORDS if word in found)


def _column(
    name: str, texts: "pa.ChunkedArray", words: tuple[str, ...], *, is_text: bool
) -> Column:
    import numpy as np

    values = _without(texts, words)
    dtype = "string" if is_text else _dtype_of(values)
    counts = Counter(value for value in values.to_pylist() if value is not None)
    read = None if dtype == "string" else _numbers(values, "float32")
    if read is None or not counts:
        return Column(name, dtype, len(texts), values.null_count, counts)
    numbers = read.astype(np.float64)
    figures = (float(np.median(numbers)), float(numbers.mean()), float(numbers.std()))
    return Column(name, dtype, len(texts), values.null_count, counts, *figures)


def _dtype_of(values: "pa.Array") -> Dtype:
    kinds: tuple[Dtype, ...] = ("int64", "float32")
    return next((kind for kind in kinds if _numbers(values, kind) is not None), "string")


def _without(texts: "pa.ChunkedArray", words: tuple[str, ...]) -> "pa.Array":
    """Return the cells; null where one says that it has no value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = pa.concat_arrays(texts.chunks)
    return pc.if_else(pc.is_in(column, value_set=pa.array(words, pa.string())), None, column)


def _numbers(values: "pa.Array", dtype: Dtype) -> "npt.NDArray[Any] | None":
    """Return the numbers of the cells that have a value; None if one is not such a number."""
    import numpy as np

    from components.data.raw_values import flatten, problems_of, read_values

    feature = FeatureConfig(dtype=dtype, default=0)
    flat, unreadable = read_values(flatten(values, feature), feature)
    if unreadable.any() or any(bad.any() for _, bad in problems_of(flat, feature, ~unreadable)):
        return None
    return np.asarray(flat.values.to_numpy(zero_copy_only=False))
