"""Labels by request and row, joined with what a version has predicted for them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data.class_names import ClassNames
from components.data.column_names import check_columns
from components.data.csv_files import read_csv, read_header
from components.deploy.judging.accuracy import Figures
from contract.errors import DataError, UserError
from contract.prediction_log.columns import PREDICTED
from contract.prediction_log.reading import read_tables
from contract.schema.data import CsvSource
from contract.schema.pipeline import PipelineConfig

REQUEST_ID, ROW, PROBABILITY = "request_id", "row", "probability"
_CONFIDENCE = "confidence"  # a column of labels that several people's answers were made
_MOST_DIGITS = 18  # of a row's number
# No caller has seen a shadow's answers; callers who name a version have chosen it.
_ARMS = ("stable", "canary")

Place = tuple[str, int]  # a request's id and the number of one of its rows


@dataclass(frozen=True)
class Label:
    """The true class of a row, as an index by head, and the probability of its choice.

    The probability may be in any unit, if `Labels.least` is in the same.
    """

    classes: Mapping[str, int]
    probability: float


@dataclass
class Labels:
    """A file's valid labels, and how many of its rows are not valid.

    `least` is the least probability with which a row may have been chosen.
    """

    least: float
    found: dict[Place, Label] = field(default_factory=dict)
    bad: int = 0


@dataclass(frozen=True)
class Labelled:
    """The labelled requests of one version in one head, and when they came."""

    figures: Figures
    times: tuple[datetime, ...] = ()


def heads_with_classes(config: PipelineConfig) -> list[str]:
    """Return the heads of which an answer is right or wrong.

    Raises:
        UserError: If there is none.
    """
    heads = [name for name, head in config.heads.items() if head.task != "regression"]
    if not heads:
        raise UserError(
            f"{config.name}: all heads are regressions; labels are compared with predicted classes"
        )
    return heads


def read_labels(path: Path, config: PipelineConfig) -> Labels:
    """Read a CSV file of labels by `request_id` and `row`, perhaps with their `probability`.

    Rows of one prediction with different labels are all refused.

    Raises:
        UserError: If a row was chosen with a probability below the least that is configured.
        DataError: If the file is missing, broken or lacks a column, or has no valid row; and if it
            has people's consensus without the probability of each row's choice.
    """
    source = CsvSource(kind="csv", files=(str(path),))
    columns = {head: config.label_column(head) for head in heads_with_classes(config)}
    header = read_header(path, source)
    check_columns(path, header, [REQUEST_ID, ROW, *columns.values()])
    if PROBABILITY not in header and _CONFIDENCE in {*header} - {*columns.values()}:
        raise DataError(
            f"{path}: expected a column '{PROBABILITY}' beside '{_CONFIDENCE}', found none: rows "
            "that people are asked about are seldom chosen evenly; run 'slipway labels consensus' "
            "again on a file of answers that has the column, or add it, with 1 for each row if "
            "every logged row was to be labelled"
        )
    classes = {head: ClassNames.of(config.heads[head]) for head in columns}
    labels, refused = Labels(config.deploy.label_least_probability), set[Place]()
    for batch in read_csv(path, source):
        labels.bad += len(batch.bad)
        for cells in batch.columns.to_pylist():
            _take(cells, {h: (classes[h], cells[columns[h]]) for h in columns}, labels, refused)
    if not labels.found:
        raise DataError(
            f"{path}: none of {labels.bad:,} rows is valid; expected a request's id, a row's "
            f"number, and in {', '.join(columns.values())} one of the head's classes"
        )
    _check_probabilities(path, labels)
    return labels


def _check_probabilities(path: Path, labels: Labels) -> None:
    """Refuse labels that would weigh more than 1; see judging/accuracy.

    Raises:
        UserError: If there is one.
    """
    place, rarest = min(labels.found.items(), key=lambda found: found[1].probability)
    if rarest.probability < labels.least:
        raise UserError(
            f"{path}: row {place[1]} of request '{place[0]}' was chosen with probability "
            f"{rarest.probability:g}, below deploy.label_least_probability ({labels.least:g}); set "
            "that to the least probability with which you choose rows, once and for all labels of "
            "the version"
        )


def _take(
    cells: Mapping[str, str | None],
    said: Mapping[str, tuple[ClassNames, str | None]],
    labels: Labels,
    refused: set[Place],
) -> None:
    """Add one row's label, or count it as bad."""
    indices = {head: classes.index(text or "") for head, (classes, text) in said.items()}
    row, probability = (cells[ROW] or "").strip(), _probability(cells)
    is_number = row.isdecimal() and len(row) <= _MOST_DIGITS
    place = (cells[REQUEST_ID] or "", int(row) if is_number else -1)
    known = {head: index for head, index in indices.items() if index is not None}
    is_valid = place[0] and place[1] >= 0 and len(known) == len(indices) and probability
    label = Label(known, probability)
    before = labels.found.get(place, label)
    if not is_valid or place in refused:
        labels.bad += 1
    elif before != label:
        del labels.found[place]
        refused.add(place)
        labels.bad += 2
    else:
        labels.found[place] = label


def _probability(cells: Mapping[str, str | None]) -> float:
    """Return the probability of a row's choice; 1 without such a column, 0 if it is not valid."""
    if PROBABILITY not in cells:
        return 1.0
    try:
        found = float(cells[PROBABILITY] or "")
    except ValueError:
        return 0.0
    return found if 0.0 < found <= 1.0 else 0.0


def labelled(folder: Path, labels: Labels, heads: list[str]) -> tuple[dict[str, Labelled], int]:
    """Return by head what the labels say of a version, and how many rows of it are labelled.

    Args:
        folder: Of the version's prediction log.
        labels: Of any versions' predictions.
        heads: Heads with classes.
    """
    requests, rows = {head: _Requests(head) for head in heads}, 0
    for logged in _answers(folder, labels):
        rows += 1
        for one in requests.values():
            one.add(logged, labels.found[logged[REQUEST_ID], logged[ROW]])
    return {head: one.labelled(labels.least) for head, one in requests.items()}, rows


def labelled_slices(
    folder: Path, labels: Labels, head: str, slices: Mapping[Place, Sequence[str]]
) -> dict[str, Labelled]:
    """Return what the labels say of a version in one head, by slice; under "" of all rows.

    Args:
        folder: Of the version's prediction log.
        labels: Of any versions' predictions.
        head: One with classes.
        slices: Names of the slices that a row is in.
    """
    requests: defaultdict[str, _Requests] = defaultdict(lambda: _Requests(head))
    for logged in _answers(folder, labels):
        place = (logged[REQUEST_ID], logged[ROW])
        for name in ("", *slices.get(place, ())):
            requests[name].add(logged, labels.found[place])
    return {name: one.labelled(labels.least) for name, one in requests.items()}


class _Requests:
    """Labelled rows of one head by request."""

    def __init__(self, head: str) -> None:
        self._head = head
        self._right = defaultdict[str, list[tuple[bool, float]]](list)
        self._times = dict[str, datetime]()

    def add(self, logged: Mapping[str, Any], label: Label) -> None:
        predicted = logged.get(PREDICTED + self._head)
        if predicted is not None:
            is_right = predicted == label.classes[self._head]
            self._right[logged[REQUEST_ID]].append((is_right, label.probability))
            self._times[logged[REQUEST_ID]] = logged["time"]

    def labelled(self, least: float) -> Labelled:
        """Return a figure for each request: its right rows, weighted as its rarest choice."""
        found = self._right.values()
        right = np.array([np.mean([is_right for is_right, _ in rows]) for rows in found])
        chosen = np.array([min(probability for _, probability in rows) for rows in found])
        return Labelled(Figures.of(right, chosen, least), tuple(sorted(self._times.values())))


def _answers(folder: Path, labels: Labels) -> Iterator[dict[str, Any]]:
    """Yield the logged rows that callers were answered with and that are labelled."""
    ids = pa.array(sorted({request_id for request_id, _ in labels.found}), pa.string())
    columns = [REQUEST_ID, ROW, "time", "arm", "status", PREDICTED]
    for table in read_tables(folder, columns=columns):
        is_wanted = pc.and_(
            pc.is_in(table[REQUEST_ID], ids), pc.is_in(table["arm"], pa.array(_ARMS))
        )
        for row in table.filter(is_wanted).to_pylist():
            if (row[REQUEST_ID], row[ROW]) in labels.found:
                yield row
