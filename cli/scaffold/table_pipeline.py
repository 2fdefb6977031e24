"""A pipeline folder from a table: features, head and settings by what its columns hold."""

import glob
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from cli.scaffold.table_columns import Column, TableFile
from contract.errors import DataError
from contract.feature_names import name_problem
from contract.places import workspace
from contract.schema.data import CsvSource

TEMPLATE = resources.files("cli") / "table_template"
_MOST_CLASSES_OF_NUMBERS = 20  # more different whole numbers than this are values, not classes
_MOST_CLASSES = 100
_FEW_ROWS = 5000  # so few need larger splits to judge on
_EPOCHS = 20
_SHOWN = 5


@dataclass(frozen=True)
class Label:
    """What the model predicts. `metric` decides; `least` is what no model is needed for."""

    column: str
    head: str
    task: str
    classes: tuple[str, ...]
    metric: str
    least: float
    mean: float = 0.0
    deviation: float = 1.0


def write_from_table(folder: Path, target: Path, read: TableFile, label: str, schema: str) -> None:
    """Write the files of a pipeline that learns one column of a table from the others.

    Args:
        folder: Where they are written; it must exist.
        target: The pipeline's folder, which `folder` becomes.
        read: What `read_table` found.
        label: The column to predict.
        schema: Where editors find the JSON Schema.

    Raises:
        DataError: If the table cannot be used; with the column and the reason.
    """
    path = data_path(folder, target, read.path)
    text = pipeline_text(target.name, path, read, label_of(read, label))
    header = f"# yaml-language-server: $schema={schema}\n"
    (folder / "pipeline.yaml").write_text(header + text, encoding="utf-8")
    files = [file for file in TEMPLATE.iterdir() if file.name.endswith(".py")]
    for source in sorted(files, key=lambda file: file.name):
        (folder / source.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")


def label_of(table: TableFile, name: str) -> Label:
    """Return what a column asks of the model: classes of few values, else a number.

    Raises:
        DataError: If rows lack a label, or the labels are neither classes nor numbers.
    """
    column = table.columns[name]
    if column.missing:
        raise DataError(
            f"label '{name}': {column.missing:,} of {column.rows:,} rows have no label; remove "
            "those rows"
        )
    distinct = len(column.counts)
    if distinct < 2:
        raise DataError(f"label '{name}': all rows have the same value; expected at least two")
    is_number = column.dtype != "string"
    if column.dtype == "float32" or (is_number and distinct > _MOST_CLASSES_OF_NUMBERS):
        figures = (column.mean, column.deviation)
        return Label(name, _head_name(name), "regression", (), "r2", 0.0, *figures)
    if distinct > _MOST_CLASSES:
        raise DataError(
            f"label '{name}': {distinct:,} different texts; expected numbers, or at most "
            f"{_MOST_CLASSES} classes"
        )
    classes = tuple(sorted(column.counts, key=float if is_number else str))
    task = "binary_classification" if distinct == 2 else "multiclass_classification"
    commonest = max(column.counts.values()) / column.rows
    least = math.floor(100 * commonest) / 100
    return Label(name, _head_name(name), task, classes, "accuracy", least)


def data_path(folder: Path, target: Path, table: Path) -> str:
    """Return the table as the pipeline in `target` names it, which is written in `folder`.

    Relative inside the pipeline's folder, and where both lie in one workspace, which then moves as
    a whole; else absolute.
    """
    found, inside, top = table.resolve(), folder.resolve(), workspace()
    if found.is_relative_to(inside):
        return str(found.relative_to(inside))
    pipeline = target.resolve()
    if found.is_relative_to(top) and pipeline.is_relative_to(top):
        return os.path.relpath(found, pipeline)
    return str(found)


def pipeline_text(name: str, path: str, read: TableFile, label: Label) -> str:
    """Return `pipeline.yaml`, without the line for editors.

    Raises:
        DataError: If no column is left to learn from.
    """
    others = [column for column in read.columns.values() if column.name != label.column]
    reasons = {c.name: name_problem(c.name) or c.no_feature_because for c in others}
    features = [column for column in others if not reasons[column.name]]
    if not features:
        told = "; ".join(f"'{column}' {reason}" for column, reason in reasons.items())
        raise DataError(f"{read.path}: no column to learn from{': ' if told else ''}{told}")
    left_out = [f"  # left out: {_text(n)} {why}" for n, why in reasons.items() if why]
    lines = [
        "#",
        f"# Made from {read.path.name}: {read.rows:,} rows, {len(read.columns)} columns.",
        "# Everything here is a proposal: change it, then run 'slipway check'.",
        f"name: {name}",
        f"description: {_text(f'Predicts {label.column} from {len(features)} columns.')}",
        "",
        "# What a caller sends and what preprocessing_fn gets; a default replaces a missing value.",
        "features:",
        *(f"  {_key(column.name)}: {_feature(column)}" for column in features),
        *left_out,
        "",
        "heads:",
        f"  {label.head}:",
        *(f"    {line}" for line in _head(label)),
        "",
        "ingest:",
        f"  # {_of_path(path)}",
        f"  source: {_flow(_source(path, read))}",
        f"  split: {_split(read.rows)}",
        "",
        *_training(read.rows, label),
        "",
        *_blessing(read.rows, label),
    ]
    return "\n".join(lines) + "\n"


# --- sections -----------------------------------------------------------------------------------


def _feature(column: Column) -> str:
    settings: dict[str, Any] = {"dtype": column.dtype}
    if column.missing:
        settings["default"] = _default(column)
    return _flow(settings)


def _default(column: Column) -> str | int | float:
    """Return the median of numbers; of texts the empty one, which a CSV file cannot tell apart."""
    if column.median is None:
        return ""
    return round(column.median) if column.dtype == "int64" else float(f"{column.median:.6g}")


def _head(label: Label) -> Iterator[str]:
    yield f"task: {label.task}"
    if label.column != label.head:
        yield f"column: {_text(label.column)}"
    if label.classes:
        comment = " # the second is the positive one" if len(label.classes) == 2 else ""
        yield f"classes: {json.dumps(label.classes, ensure_ascii=False)}{comment}"


def _source(path: str, read: TableFile) -> dict[str, Any]:
    settings: dict[str, Any] = {"kind": read.source.kind, "files": [glob.escape(path)]}
    if not isinstance(read.source, CsvSource):
        return settings
    if read.source.delimiter != ",":
        settings["delimiter"] = read.source.delimiter
    if not read.source.is_stripped:
        settings["is_stripped"] = False
    if read.source.missing != ("",):
        settings["missing"] = list(read.source.missing)
    return settings


def _split(rows: int) -> str:
    if rows < _FEW_ROWS:
        return "{train: 0.7, eval: 0.15, test: 0.15} # so few rows need larger splits to judge on"
    return "{train: 0.8, eval: 0.1, test: 0.1}"


def _training(rows: int, label: Label) -> Iterator[str]:
    batch = 32 if rows < _FEW_ROWS else 256
    steps = min(max(_EPOCHS * rows // batch, 300), 5000)
    yield "train:"
    yield f"  steps: {steps}"
    yield f"  batch_size: {batch}"
    yield f"  checkpoint_every_steps: {max(steps // 5, 1)}"
    yield "  hyperparameters: # for build_model in model.py"
    yield "    id_limit: 1024 # as in preprocessing.py: every id is below it"
    yield "    embedding_size: 8"
    yield "    hidden_units: [64, 32]"
    yield "    dropout: 0.1"
    outputs = len(label.classes) if label.task == "multiclass_classification" else 1
    yield f"    outputs: {outputs}"
    if label.task == "regression":
        yield f"    label_mean: {label.mean!r}"
        yield f"    label_deviation: {label.deviation!r}"


def _blessing(rows: int, label: Label) -> Iterator[str]:
    tested = rows * (0.15 if rows < _FEW_ROWS else 0.1)
    margin = max(0.01, round(0.6 / math.sqrt(max(tested, 1.0)), 3))
    answer = "mean" if label.task == "regression" else "most common class"
    without = f"what always answering the {answer} reaches"
    yield "bless:"
    yield f"  metric: {label.metric}"
    yield f"  thresholds: {{{label.metric}: {label.least:g}}} # {without}"
    yield f"  margin: {margin:g} # a smaller loss cannot be shown with {tested:,.0f} test rows"


# --- words --------------------------------------------------------------------------------------


def _flow(settings: Mapping[str, Any]) -> str:
    pairs = (f"{key}: {_value(value)}" for key, value in settings.items())
    return f"{{{', '.join(pairs)}}}"


def _value(value: Any) -> str:
    return value if value in ("csv", "float32", "int64", "string") else _text(value)


def _text(value: Any) -> str:
    """Return a value as JSON, which YAML reads, too; it takes printable characters only."""
    return json.dumps(value, ensure_ascii=not str(value).isprintable())


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) else _text(name)


def _head_name(column: str) -> str:
    """Return a name for the head; the label's own where that is one."""
    name = re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_")[:40]
    return name if re.match(r"[a-z]", name) else f"label_{name}".strip("_")[:40]


def _of_path(path: str) -> str:
    if Path(path).is_absolute():
        return "an absolute path: change it where the file moves, as on another machine"
    return "relative to this folder"
