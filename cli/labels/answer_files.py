"""People's answers as CSV: who said what of which prediction."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from contract.errors import DataError

if TYPE_CHECKING:
    from serving.labels.store.records import Answered, Truth

COLUMNS = ("request_id", "row", "labeller", "label")
GOLD_COLUMNS = ("request_id", "row", "label")

_CHOICE_COLUMNS = ("probability", "audit_probability", "is_audit")
_MOST_DIGITS = 18  # of a row's number


def as_csv(answers: "Iterable[Answered]") -> str:
    """Return answers as `slipway labels consensus` reads them.

    "Can't tell" has an empty label, and so has every answer to a row of which nobody can tell, as a
    reviewer has decided.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, "version", *_CHOICE_COLUMNS, "gold", "decided"])
    for one in answers:
        numbers = (f"{one.probability:.9g}", f"{one.audit_probability:.9g}")
        is_audit = str(one.is_audit).lower()
        label = "" if one.is_untellable else one.label or ""
        said = (one.request_id, one.row, one.labeller, label, one.version)
        writer.writerow([*said, *numbers, is_audit, one.gold or "", one.decided or ""])
    return text.getvalue()


def truths_as_csv(truths: "Iterable[Truth]", column: str) -> str:
    """Return labels as `slipway judge labels` and `slipway labels add` read them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["request_id", "row", column])
    writer.writerows((one.request_id, one.row, one.label) for one in truths)
    return text.getvalue()


def read_csv(path: Path) -> Iterator[tuple[str, int, str, str]]:
    """Yield the answers of a file; rows without a label are none.

    Raises:
        DataError: If the file cannot be read, lacks a column, or has a row without its number.
    """
    for number, row in _rows(path, COLUMNS):
        if not _is_number(row["row"]) or not row["labeller"]:
            raise DataError(
                f"{path}: line {number}: expected a row's number and a labeller, found "
                f"'{row['row']}' and '{row['labeller']}'"
            )
        if row["label"]:
            yield row["request_id"], int(row["row"]), row["labeller"], row["label"]


def read_gold(path: Path, classes: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return the right labels of a file, by request and row.

    Raises:
        DataError: If the file cannot be read, lacks a column, or has a row that says nothing.
    """
    found = {}
    for number, row in _rows(path, GOLD_COLUMNS):
        if not _is_number(row["row"]) or row["label"] not in classes:
            raise DataError(
                f"{path}: line {number}: expected a row's number and one of "
                f"{', '.join(classes)}, found '{row['row']}' and '{row['label']}'"
            )
        found[row["request_id"], row["row"]] = row["label"]
    return found


def _is_number(row: str) -> bool:
    return row.isdecimal() and len(row) <= _MOST_DIGITS


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the lines of a CSV file with their numbers; absent cells are empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, restval="")
            if absent := [name for name in columns if name not in (rows.fieldnames or ())]:
                expected = ", ".join(columns)
                raise DataError(f"{path}: no column {', '.join(absent)}; expected {expected}")
            yield from enumerate(rows, 2)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from error
