"""Data frames to what Slipway reads, and what Slipway answers to data frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from contract.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from cli.scaffold.folder import Write


def writing_frame(frame: pd.DataFrame, label: str) -> "Write":
    """Return what writes a pipeline folder that has the frame as `data/<name>.csv`.

    Cells are written such that a caller who sends the frame's own values sends what training saw:
    text with its white space, truth values and dates as `text_of` has them. Text stays text, also
    where it looks like a number. An empty text and a missing one are the same in a CSV file.

    Raises:
        DataError: If the frame cannot be a CSV file, with the column.
    """
    table = plain_frame(frame)
    _check_cells(table)

    def write(folder: Path, target: Path) -> None:
        from cli.scaffold.folder import schema_from
        from cli.scaffold.table_columns import read_table
        from cli.scaffold.table_pipeline import write_from_table

        path, column = folder / "data" / f"{target.name}.csv", str(label).strip()
        path.parent.mkdir()
        _as_written(table).to_csv(path, index=False, encoding="utf-8")
        texts = [str(name) for name, series in table.items() if _is_text(series)]
        read = read_table(path, column, is_stripped=False, texts=texts)
        write_from_table(folder, target, read, column, schema_from(target))

    return write


def _is_text(series: "pd.Series[Any]") -> bool:
    is_categorical = isinstance(series.dtype, pd.CategoricalDtype)
    values = series.cat.categories if is_categorical else series
    return bool(pd.api.types.infer_dtype(values) == "string")


def _as_written(frame: pd.DataFrame) -> pd.DataFrame:
    from cli.requests.table_rows import text_of

    texts = {name: text_of(column) for name, column in columns_of(frame).items()}
    changed = {
        name: pd.Series(column.to_pylist(), index=frame.index, dtype=object)
        for name, column in texts.items()
        if column is not None
    }
    return frame.assign(**changed)


def plain_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with names as the CSV reader has them: text, without white space around it.

    Raises:
        DataError: If there are no rows, or names have several levels, are empty or repeat.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"expected a DataFrame, found {type(frame).__name__}")
    if frame.columns.nlevels > 1:
        raise DataError(
            f"the frame's columns have {frame.columns.nlevels} levels; expected one: flatten them"
        )
    if frame.empty:
        rows, columns = frame.shape
        raise DataError(f"the frame has {rows} rows and {columns} columns; expected some of both")
    names = [str(name).strip() for name in frame.columns]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"column names repeat: {', '.join(repeated)}; give each its own name")
    if "" in names:
        raise DataError(f"column {names.index('') + 1} has no name; give it one")
    return frame.set_axis(names, axis=1)


def columns_of(frame: pd.DataFrame) -> "dict[str, pa.Array]":
    """Return the columns as Arrow has them; NaN, None, NA and NaT are null.

    Cells of several types in one column become text, as in a CSV file.
    """
    import pyarrow as pa

    columns = {}
    for name, series in plain_frame(frame).items():
        try:
            column = _as_arrow(series)
        except UnicodeEncodeError as error:
            raise DataError(f"column '{name}' holds text that is not Unicode: {error}") from error
        columns[str(name)] = (
            pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
        )
    return columns


def _as_arrow(series: "pd.Series[Any]") -> "pa.Array":
    import pyarrow as pa

    try:
        return pa.Array.from_pandas(series)
    except pa.ArrowException:
        return pa.Array.from_pandas(series.map(str, na_action="ignore"))


def answers_frame(
    named: Sequence[Mapping[str, Mapping[str, Any]]], index: pd.Index
) -> pd.DataFrame:
    """Return answers as `data_plane.named` has them as a frame: a row each, in order."""
    rows = [dict(_cells(answer)) for answer in named]
    return pd.DataFrame(rows, index=index)


def _cells(answer: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    cells: dict[str, Any] = {}
    for head, found in answer.items():
        cells[head] = found["value"] if "value" in found else found["class"]
        cells |= {f"{head}:{name}": score for name, score in found.get("scores", {}).items()}
    return cells


def _check_cells(frame: pd.DataFrame) -> None:
    """Raise DataError if a column holds what a CSV file has no text for."""
    for name, series in frame.items():
        if pd.api.types.is_timedelta64_dtype(series.dtype):
            raise DataError(f"column '{name}' holds durations; convert it with .dt.total_seconds()")
        if pd.api.types.is_complex_dtype(series.dtype):
            raise DataError(f"column '{name}' holds complex numbers; expected real ones")
        if series.dtype != object:
            continue
        nested = series.map(_is_nested)
        if nested.any():
            found = type(series[nested].iloc[0]).__name__
            raise DataError(
                f"column '{name}' holds values of type {found}; expected numbers, text, dates or "
                "truth values: write a pipeline by hand for lists (docs/pipelines.md)"
            )


def _is_nested(value: object) -> bool:
    if isinstance(value, list | tuple | dict | set | bytes):
        return True
    return bool(getattr(value, "shape", ()))  # an array; scalars of numpy have no dimensions
