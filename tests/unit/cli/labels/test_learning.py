"""What a model learns from: agreed, sure, weighted, and not what measures it."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from cli.labels.answer_files import as_csv as answers_as_csv
from cli.labels.learning import (
    Learned,
    as_csv,
    settled,
    settled_with_models,
    to_learn,
    weights_of,
)
from components.labels.consensus.settling import read_answers, settle
from contract.errors import DataError
from serving.labels.store.records import Answered, Question


def answered(
    request_id: str, label: str | None, who: str = "ada", gold: str | None = None
) -> Answered:
    return Answered(
        question=1,
        request_id=request_id,
        row=0,
        labeller=who,
        label=label,
        gold=gold,
        version=1,
        probability=0.5,
        audit_probability=0.0,
        is_audit=False,
        answered_at=0.0,
    )


def asked(
    request_id: str,
    probability: float = 0.5,
    audit: float = 0.0,
    is_audit: bool = False,
    harvest: int = 1,
) -> Question:
    return Question(
        question=1,
        request_id=request_id,
        row=0,
        inputs={},
        guesses=(),
        version=1,
        probability=probability,
        audit_probability=audit,
        is_audit=is_audit,
        harvest=harvest,
    )


def learned(*said: Answered, people: int = 1, least: float = 0.0) -> dict[str, float]:
    """Return what is learned from answers to questions that were chosen with equal probability."""
    weights = weights_of([asked(one.request_id) for one in said if one.gold is None])
    found = to_learn(settled(said, ["x", "y"]), weights, least, people)
    return {f"{one.place[0]}={one.label}": one.weight for one in found}


def rounded(*questions: Question) -> dict[str, float]:
    return {place[0]: round(weight, 6) for place, weight in weights_of(questions).items()}


def test_a_label_weighs_one_over_the_probability_that_it_was_chosen_by_worth() -> None:
    # 1 / 0.4 = 2.5 and 1 / 0.1 = 10: over their mean, 6.25
    assert rounded(asked("a", 0.5, 0.1), asked("b", 0.1)) == {"a": 0.4, "b": 1.6}


def test_another_harvest_changes_no_weight() -> None:
    first = [asked("a", 0.5, 0.1), asked("b", 0.1)]
    # 1 / 0.02 = 50 and 1 / 0.01 = 100: over their mean, 75
    second = [asked("c", 0.02, harvest=2), asked("d", 0.01, harvest=2)]
    assert rounded(*first, *second) == {"a": 0.4, "b": 1.6, "c": 0.666667, "d": 1.333333}


def test_more_answers_change_no_weight() -> None:
    weights = weights_of([asked("a", 0.5, 0.1), asked("b", 0.1)])
    first, more = answered("a", "x"), answered("b", "y")
    before, after = (
        {one.place[0]: round(one.weight, 6) for one in to_learn(found, weights, 0.0, 1)}
        for found in (settled([first], ["x", "y"]), settled([first, more], ["x", "y"]))
    )
    assert (before, after) == ({"a": 0.4}, {"a": 0.4, "b": 1.6})


def test_audit_rows_are_left_out() -> None:
    certain = asked("certain", 0.1, 0.1)  # only the audit can choose it
    assert rounded(asked("audit", is_audit=True), certain, asked("plain")) == {"plain": 1.0}


def test_gold_and_rows_that_nobody_can_tell_are_left_out() -> None:
    said = [answered("gold", "x", gold="x"), answered("unsure", None), answered("plain", "y")]
    assert learned(*said) == {"plain=y": 1.0}


def test_rows_with_too_few_answers_wait() -> None:
    said = [answered("a", "x"), answered("a", "x", "bob"), answered("b", "x")]
    assert learned(*said, people=2) == {"a=x": 1.0}


def test_unsure_labels_are_left_out() -> None:
    agreed = [answered(f"b{n}", "xy"[n % 2], who) for n in range(8) for who in ("ada", "bob")]
    said = [answered("a", "x"), answered("a", "y", "bob"), *agreed]
    assert [*learned(*said, least=0.8)] == [f"b{n}={'xy'[n % 2]}" for n in range(8)]


def test_no_answers_teach_nothing() -> None:
    with pytest.raises(DataError, match="no answers to make labels of"):
        settled([answered("a", None)], ["x", "y"])


def test_weights_are_written_for_pipelines_that_have_them() -> None:
    rows = [Learned(("a", "0"), "x", 0.4)]
    assert as_csv(rows, "digit", None) == "request_id,row,digit\na,0,x\n"
    assert as_csv(rows, "digit", "w") == "request_id,row,digit,w\na,0,x,0.4\n"


def test_what_a_reviewer_has_decided_is_learned_whatever_people_said() -> None:
    decided = [
        replace(answered("one", "x"), decided="y"),
        *(replace(answered("two", "x", who), is_untellable=True) for who in ("ada", "bob")),
        *(answered(name, "x", who) for name in "abcd" for who in ("ada", "bob")),
    ]
    decided.append(replace(answered("unsure", None), decided="y"))
    assert {*learned(*decided, people=2)} == {"one=y", "unsure=y", "a=x", "b=x", "c=x", "d=x"}
    (sure,) = [one for one in settled(decided, ["x", "y"]).labels if one.place[0] == "one"]
    assert (sure.confidence, sure.votes, sure.agreement) == (1.0, 1, 0)


def test_decisions_go_out_with_the_answers_and_count_in_the_consensus(tmp_path: Path) -> None:
    decided = [
        *(replace(answered("one", "x", who), decided="y") for who in ("ada", "bob")),
        replace(answered("two", "x"), is_untellable=True),
        *(answered(name, "x", who) for name in "abcd" for who in ("ada", "bob")),
    ]
    decided.append(replace(answered("unsure", None), decided="x"))
    file = tmp_path / "answers.csv"
    file.write_text(answers_as_csv(decided))
    found = settle(read_answers(file, ["x", "y"]), ["x", "y"])
    labels = {one.place[0]: (one.label, one.confidence == 1.0) for one in found.labels}
    assert labels == {
        "one": ("y", True),
        "unsure": ("x", True),
        **dict.fromkeys("abcd", ("x", False)),
    }


def test_decisions_alone_make_labels() -> None:
    assert {*learned(replace(answered("unsure", None), decided="y"))} == {"unsure=y"}


@pytest.mark.parametrize(("model_right", "most_ratio"), [(0.85, 0.6), (0.1, 1.0), (0.0, 1.0)])
def test_what_versions_guess_makes_fewer_labels_wrong_and_a_wrong_version_no_more(
    model_right: float, most_ratio: float
) -> None:
    """Two people are right in 85 % of 300 rows of ten classes; the version guesses, or errs."""
    chance, classes = random.Random(4), [str(digit) for digit in range(10)]

    def says(right: str, ratio: float) -> str:
        others = [one for one in classes if one != right]
        return right if chance.random() < ratio else chance.choice(others)

    said, questions, truth = list[Answered](), list[Question](), dict[str, str]()
    for number in range(300):
        name = f"r{number}"
        truth[name] = str(number % 10)
        said += [answered(name, says(truth[name], 0.85), who) for who in ("ada", "bob")]
        guess = says(truth[name], model_right)
        questions.append(replace(asked(name), guesses=((guess, 0.5),)))
    alone, joined = settled(said, classes), settled_with_models(said, questions, classes)
    wrong_alone, wrong = (
        sum(truth[one.place[0]] != one.label for one in found.labels) for found in (alone, joined)
    )
    assert wrong_alone > 20 and wrong <= most_ratio * wrong_alone
    assert {one.votes for one in joined.labels} == {2}
    assert [one.name for one in joined.people] == ["ada", "bob"]


def test_a_guess_alone_is_no_label() -> None:
    one, other = (
        replace(asked("a"), guesses=(("x", 1.0),)),
        replace(asked("b"), guesses=(("y", 1.0),)),
    )
    found = settled_with_models([answered("a", "y")], [one, other], ["x", "y"])
    (label,) = found.labels
    assert (label.place, label.votes, label.agreement <= 1) == (("a", "0"), 1, True)
