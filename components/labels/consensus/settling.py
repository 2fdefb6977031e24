"""A file of answers in, one label for each row out."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from components.data.column_names import check_columns
from components.data.csv_files import read_csv, read_header
from components.labels.consensus.answers import Answers, Said
from components.labels.consensus.dawid_skene import dawid_skene
from components.labels.consensus.people import Labeller, labellers
from contract.errors import DataError
from contract.schema.data import CsvSource

ANSWER_COLUMNS = ("request_id", "row", "labeller", "label")
GOLD = "gold"  # perhaps a column too: the right label, where it is known
DECIDED = "decided"  # and the label on which a reviewer has decided
# Perhaps columns too: how a row was chosen. A label measures a model only with its probability.
CHOICE_COLUMNS = ("probability", "audit_probability", "is_audit")

Place = tuple[str, str]  # a request's id and the number of one of its rows
Choice = tuple[str, ...]  # the cells of the file's CHOICE_COLUMNS


class NoAnswersError(DataError):
    """Nobody has given a label."""


@dataclass
class AnswerFile:
    """What a file of answers says; `gold` has the right labels that are known beforehand.

    `decided` has the labels on which a reviewer has decided.
    `choices` has how each row was chosen, as cells of `choice_columns`, those that the file has.
    """

    said: list[Said] = field(default_factory=list)
    gold: dict[Place, str] = field(default_factory=dict)
    decided: dict[Place, str] = field(default_factory=dict)
    choice_columns: tuple[str, ...] = ()
    choices: dict[Place, Choice] = field(default_factory=dict)
    bad: int = 0  # rows that are no answers


@dataclass(frozen=True)
class Settled:
    """One row's label; `votes` is how many have answered, `agreement` how many of them so."""

    place: Place
    label: str
    confidence: float
    votes: int
    agreement: int
    is_decided: bool = False  # by a reviewer, and not by the answers


@dataclass(frozen=True)
class Settlement:
    """All labels, and what each labeller is worth."""

    labels: tuple[Settled, ...]
    people: tuple[Labeller, ...]


def settle(given: AnswerFile, classes: Sequence[str]) -> Settlement:
    """Find the label of each question but gold ones, which teach who errs.

    What a reviewer has decided is the label, with confidence 1. It teaches nothing: those are the
    hard questions, in which people err more often than in others.

    Raises:
        NoAnswersError: If nobody has answered.
    """
    if not given.said and not given.decided:
        raise NoAnswersError(f"no answers to make labels of ({given.bad:,} rows are none)")
    found = _from_answers(given, classes) if given.said else Settlement((), ())
    by_place = {label.place: label for label in found.labels}
    votes = Counter((place, label) for place, _, label in given.said)
    for place, label in given.decided.items():
        if place not in given.gold:
            before = by_place.get(place, Settled(place, label, 1.0, 0, 0))
            agreement = votes[place, label]
            by_place[place] = replace(
                before, label=label, confidence=1.0, agreement=agreement, is_decided=True
            )
    return Settlement(tuple(by_place.values()), found.people)


def _from_answers(given: AnswerFile, classes: Sequence[str]) -> Settlement:
    answers = Answers.of(given.said, classes)
    known = {
        number: classes.index(given.gold[place])
        for number, place in enumerate(answers.questions)
        if place in given.gold
    }
    found = dawid_skene(answers, known)
    votes = answers.votes()
    best = found.probabilities.argmax(axis=1)
    labels = tuple(
        Settled(
            place=(str(place[0]), str(place[1])),
            label=classes[best[number]],
            confidence=float(found.probabilities[number, best[number]]),
            votes=int(votes[number].sum()),
            agreement=int(votes[number, best[number]]),
        )
        for number, place in enumerate(answers.questions)
        if isinstance(place, tuple) and number not in known
    )
    return Settlement(labels, tuple(labellers(answers, found)))


def read_answers(path: Path, classes: Sequence[str]) -> AnswerFile:
    """Return the answers of a CSV file, and how many of its rows are none.

    Of two answers of one labeller to one row the later in the file counts.

    Raises:
        DataError: If the file is missing, broken or lacks a column, or if it says of one row that
            it was chosen in two ways.
    """
    source = CsvSource(kind="csv", files=(str(path),))
    header = read_header(path, source)
    check_columns(path, header, [*ANSWER_COLUMNS])
    columns = tuple(name for name in CHOICE_COLUMNS if name in header)
    last, found = dict[tuple[Place, str], str](), AnswerFile(choice_columns=columns)
    for batch in read_csv(path, source):
        found.bad += len(batch.bad)
        for cells in batch.columns.to_pylist():
            request_id, row, labeller, label = (cells[name] or "" for name in ANSWER_COLUMNS)
            if row.isdecimal() and cells.get(DECIDED) in classes:
                found.decided[request_id, row] = cells[DECIDED]
            if not (request_id and row.isdecimal() and labeller and label in classes):
                found.bad += 1
                continue
            last[(request_id, row), labeller] = label
            if cells.get(GOLD) in classes:
                found.gold[request_id, row] = cells[GOLD]
            _take_choice(path, (request_id, row), tuple(cells[c] or "" for c in columns), found)
    found.said = [(place, labeller, label) for (place, labeller), label in last.items()]
    return found


def _take_choice(path: Path, place: Place, choice: Choice, found: AnswerFile) -> None:
    """Note how a row was chosen; an answer from elsewhere has only empty cells for it."""
    if not any(choice):
        return
    before = found.choices.setdefault(place, choice)
    if before != choice:
        raise DataError(
            f"{path}: row {place[1]} of request '{place[0]}': {', '.join(found.choice_columns)}: "
            f"expected the same in each answer, found {', '.join(before)} and {', '.join(choice)}; "
            "run it on the answers of one choice of rows at a time"
        )


def as_csv(labels: Sequence[Settled], column: str, given: AnswerFile) -> str:
    """Return labels as a CSV file that `slipway labels add` and `slipway judge labels` read.

    It has the columns of the file of answers that say how a row was chosen.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    settled = ("confidence", "votes", "agreement")
    writer.writerow(["request_id", "row", column, *settled, *given.choice_columns])
    unknown = ("",) * len(given.choice_columns)
    for one in labels:
        numbers = (f"{one.confidence:.4f}", one.votes, one.agreement)
        writer.writerow([*one.place, one.label, *numbers, *given.choices.get(one.place, unknown)])
    return text.getvalue()


def sure(found: Settlement, least: float) -> Iterator[Settled]:
    """Yield the labels of at least a confidence."""
    yield from (label for label in found.labels if label.confidence >= least)
