"""A file of answers becomes a file of labels."""

import csv
import io
from pathlib import Path

import pytest

from components.labels.consensus.settling import AnswerFile, as_csv, read_answers, settle, sure
from contract.errors import DataError

HEADER = "request_id,row,labeller,label\n"
BOTH = (("ada", "yes"), ("bob", "no"))  # of whom bob is right


def write(folder: Path, text: str) -> Path:
    path = folder / "answers.csv"
    path.write_text(text)
    return path


def test_rows_that_are_no_answers_are_counted_and_the_last_of_two_answers_counts(
    tmp_path: Path,
) -> None:
    file = write(
        tmp_path,
        HEADER
        + "a,0,ada,yes\na,0,ada,no\na,0,bob,maybe\n,0,bob,no\nb,x,bob,no\nb,1,,no\nb,1,bob,no\n",
    )
    found = read_answers(file, ["yes", "no"])
    assert found.said == [(("a", "0"), "ada", "no"), (("b", "1"), "bob", "no")]
    assert (found.bad, found.gold) == (4, {})


def test_a_file_without_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labeller"):
        read_answers(write(tmp_path, "request_id,row,label\na,0,yes\n"), ["yes", "no"])


def test_a_row_has_one_label_with_its_votes() -> None:
    people = ["ada", "bob", "cy"]
    said = [((f"r{n}", "0"), who, "yes" if n % 2 else "no") for n in range(30) for who in people]
    said += [(("split", "1"), "ada", "yes"), (("split", "1"), "bob", "no")]
    found = settle(AnswerFile([*said]), ["yes", "no"])
    by_place = {label.place: label for label in found.labels}
    assert (by_place["r1", "0"].label, by_place["r2", "0"].label) == ("yes", "no")
    assert (by_place["r1", "0"].votes, by_place["r1", "0"].agreement) == (3, 3)
    assert by_place["r1", "0"].confidence > 0.99 > by_place["split", "1"].confidence
    assert {label.place for label in sure(found, 0.99)} == by_place.keys() - {("split", "1")}
    (first, *_) = csv.DictReader(io.StringIO(as_csv(found.labels, "income", AnswerFile())))
    assert (first["request_id"], first["row"], first["income"]) == ("r0", "0", "no")


def test_no_answers_make_no_labels() -> None:
    with pytest.raises(DataError, match="no answers to make labels of .2 rows are none"):
        settle(AnswerFile(bad=2), ["yes", "no"])


def test_gold_rows_teach_who_is_right_and_are_no_labels_themselves(tmp_path: Path) -> None:
    lines = [f"g{n},0,{who},{label},no" for n in range(9) for who, label in BOTH]
    lines += [f"r{n},0,{who},{label}," for n in range(9) for who, label in BOTH]
    file = write(tmp_path, "request_id,row,labeller,label,gold\n" + "\n".join(lines) + "\n")
    found = settle(read_answers(file, ["yes", "no"]), ["yes", "no"])
    assert {label.place[0]: label.label for label in found.labels} == {
        f"r{n}": "no" for n in range(9)
    }


def test_how_a_row_was_chosen_stays_with_its_label(tmp_path: Path) -> None:
    header = "request_id,row,labeller,label,probability,audit_probability,is_audit\n"
    lines = ["rare,0,ada,yes,0.001,0.0005,false", "rare,0,bob,yes,,,", "far,0,bob,no,0.9,0.1,true"]
    file = write(tmp_path, header + "\n".join([*lines, "else,0,bob,no,,,"]) + "\n")
    given = read_answers(file, ["yes", "no"])
    found = settle(given, ["yes", "no"])
    kept = ("request_id", "probability", "audit_probability", "is_audit")
    rows = [*csv.DictReader(io.StringIO(as_csv(found.labels, "income", given)))]
    assert [tuple(row[name] for name in kept) for row in rows] == [
        ("rare", "0.001", "0.0005", "false"),
        ("far", "0.9", "0.1", "true"),
        ("else", "", "", ""),
    ]


def test_a_row_that_was_chosen_in_two_ways_is_refused(tmp_path: Path) -> None:
    text = "request_id,row,labeller,label,probability\na,3,ada,yes,0.9\na,3,bob,yes,0.5\n"
    with pytest.raises(DataError, match="row 3 of request 'a': probability: .* found 0.9 and 0.5"):
        read_answers(write(tmp_path, text), ["yes", "no"])
