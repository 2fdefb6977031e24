"""Questions go to people, each once; answers are kept, refused in words, and never lost."""

import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from contract.errors import (
    ConfigError,
    ConflictError,
    DataError,
    NotFoundError,
    ServiceUnavailableError,
)
from serving.labels.store import tables
from serving.labels.store.answering import answer, answers, skip, undo
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.exchange import Imported, import_answers, stored_questions
from serving.labels.store.questions import (
    ASSIGNMENT_SECONDS,
    add_questions,
    next_questions,
    topic_id,
)
from serving.labels.store.records import Asked, NewQuestion, Topic
from serving.labels.store.standing import gold_results, leaders, standing

NOW = 1_796_000_000.0


def ask(asking: Any, who: str, now: float = NOW) -> Asked | None:
    found = next_questions(asking.database, asking.topic, who, now)
    return found[0] if found else None


def answer_next(asking: Any, who: str, label: str | None = "red", now: float = NOW) -> int:
    found = ask(asking, who, now)
    assert found is not None
    answer(asking.database, found.question, who, label, now)
    return found.question


def test_a_question_goes_to_as_many_people_as_wanted_and_to_each_once(asking: Any) -> None:
    assert asking.add("a", "b", people=2) == (2, 0)
    seen = {who: [answer_next(asking, who) for _ in range(2)] for who in ("ada", "bob")}
    assert sorted(seen["ada"]) == sorted(seen["bob"]) and len({*seen["ada"]}) == 2
    assert ask(asking, "ada") is None
    assert ask(asking, "cy") is None  # both have their two answers
    assert standing(asking.database, asking.topic, "ada").closed == 2


def test_a_question_that_is_in_two_hands_is_not_given_to_a_third(asking: Any) -> None:
    asking.add("a", people=2)
    assert ask(asking, "ada") and ask(asking, "bob")
    assert ask(asking, "cy") is None
    assert ask(asking, "ada") is not None  # the same one again: it is in her hands


def test_who_does_not_answer_in_time_makes_room_for_others(asking: Any) -> None:
    asking.add("a", people=1)
    assert ask(asking, "ada") is not None
    later = NOW + ASSIGNMENT_SECONDS + 1
    assert ask(asking, "bob", later) is not None
    assert ask(asking, "ada", later) is None


def test_a_question_whose_time_was_over_comes_again_after_all_others(asking: Any) -> None:
    asking.add("a", "b", people=1)
    asking.add("c", people=1)
    shown, loaded = next_questions(asking.database, asking.topic, "ada", NOW, 2)
    later = NOW + ASSIGNMENT_SECONDS + 1
    assert answer_next(asking, "ada", now=later) not in {shown.question, loaded.question}  # "c"
    again = next_questions(asking.database, asking.topic, "ada", later, 2)
    assert [one.question for one in again] == [shown.question, loaded.question]
    assert ask(asking, "bob", later) is None  # both are in ada's hands
    for one in again:
        answer(asking.database, one.question, "ada", "red", later)
    assert standing(asking.database, asking.topic, "ada").closed == 3
    assert ask(asking, "ada", later + ASSIGNMENT_SECONDS + 1) is None


def test_a_late_answer_counts_while_nobody_else_has_the_question(asking: Any) -> None:
    asking.add("a", "b", people=1)
    first = ask(asking, "ada")
    assert first is not None
    later = NOW + ASSIGNMENT_SECONDS + 1
    next_questions(asking.database, asking.topic, "ada", later)  # the first has expired
    answer(asking.database, first.question, "ada", "red", later)
    assert [(one.question, one.label) for one in answers(asking.database, asking.topic)] == [
        (first.question, "red")
    ]
    assert standing(asking.database, asking.topic, "ada").closed == 1


def test_a_late_answer_is_refused_where_another_one_has_the_question(asking: Any) -> None:
    asking.add("a", people=1)
    first = ask(asking, "ada")
    assert first is not None
    answer_next(asking, "bob", now=NOW + ASSIGNMENT_SECONDS + 1)
    with pytest.raises(ConflictError, match="your time for it was over and others have it now"):
        answer(asking.database, first.question, "ada", "red", NOW + ASSIGNMENT_SECONDS + 2)


def test_two_answers_of_one_person_are_one_or_refused(asking: Any) -> None:
    asking.add("a")
    number = answer_next(asking, "ada", "red")
    answer(asking.database, number, "ada", "red", NOW)  # pressed twice: the same
    with pytest.raises(ConflictError, match="you have answered 'red'; undo it"):
        answer(asking.database, number, "ada", "blue", NOW)
    with pytest.raises(ConflictError, match="you have answered it; undo it instead"):
        skip(asking.database, number, "ada", NOW)
    assert standing(asking.database, asking.topic, "ada").answers == 1


def test_answers_that_nobody_asked_for_are_refused(asking: Any) -> None:
    asking.add("a")
    number = answer_next(asking, "ada")
    with pytest.raises(NotFoundError, match="bob was not asked this"):
        answer(asking.database, number, "bob", "red", NOW)
    with pytest.raises(NotFoundError, match="question 99: ada was not asked this"):
        answer(asking.database, 99, "ada", "red", NOW)
    found = ask(asking, "bob")
    assert found is not None
    with pytest.raises(DataError, match="expected one of red, green, blue, found 'pink'"):
        answer(asking.database, found.question, "bob", "pink", NOW)


def test_a_skipped_question_goes_to_others_and_never_back(asking: Any) -> None:
    asking.add("a", people=1)
    found = ask(asking, "ada")
    assert found is not None
    skip(asking.database, found.question, "ada", NOW)
    skip(asking.database, found.question, "ada", NOW)  # pressed twice
    with pytest.raises(ConflictError, match="you have skipped it"):
        answer(asking.database, found.question, "ada", "red", NOW)
    assert ask(asking, "ada") is None
    assert answer_next(asking, "bob") == found.question


def test_undo_takes_back_the_last_answer_with_its_points(asking: Any) -> None:
    asking.add("a", "b", people=1)
    first, second = answer_next(asking, "ada"), answer_next(asking, "ada", "blue", NOW + 1)
    assert undo(asking.database, asking.topic, "ada", NOW + 2) == second
    found = standing(asking.database, asking.topic, "ada")
    assert (found.points, found.answers, found.closed) == (10, 1, 1)
    held = ask(asking, "ada", NOW + 3)
    assert held is not None and held.question == second
    answer(asking.database, second, "ada", "green", NOW + 4)
    said = {one.question: one.label for one in answers(asking.database, asking.topic)}
    assert said == {first: "red", second: "green"}


class Unconfirmed(Database):
    """A database whose first commit is not confirmed, so that the work is done again."""

    def change(self, work: Any, is_lasting: bool = True) -> Any:
        super().change(work, is_lasting)
        return super().change(work, is_lasting)


def test_an_undo_that_is_tried_again_takes_no_second_answer_back(
    asking: Any, tmp_path: Path
) -> None:
    asking.add("a", "b", people=1)
    first, second = answer_next(asking, "ada"), answer_next(asking, "ada", "blue", NOW + 1)
    unconfirmed = Unconfirmed(sqlite_url(tmp_path / "labels.db"))
    assert undo(unconfirmed, asking.topic, "ada", NOW + 2) == second
    assert [one.question for one in answers(asking.database, asking.topic)] == [first]
    found = standing(asking.database, asking.topic, "ada")
    assert (found.points, found.answers, found.closed) == (10, 1, 1)


def test_what_is_long_ago_is_not_undone(asking: Any) -> None:
    asking.add("a")
    answer_next(asking, "ada")
    with pytest.raises(NotFoundError, match="no answer of the last 10 minutes"):
        undo(asking.database, asking.topic, "ada", NOW + 601)


def test_cannot_tell_is_an_answer_without_a_label(asking: Any) -> None:
    asking.add("a", people=1)
    answer_next(asking, "ada", None)
    assert [one.label for one in answers(asking.database, asking.topic)] == [None]
    assert standing(asking.database, asking.topic, "ada").points == 2


def test_points_are_the_same_for_gold_and_others_and_every_tenth_in_a_row_has_a_bonus(
    asking: Any,
) -> None:
    asking.add(*(f"q{n}" for n in range(8)), people=1)
    asking.add("g1", "g2", gold="red")
    for second in range(10):
        answer_next(asking, "ada", now=NOW + second)
    found = standing(asking.database, asking.topic, "ada")
    assert (found.points, found.streak, found.questions) == (10 * 10 + 20, 10, 8)
    assert gold_results(asking.database, asking.topic) == {"ada": (2, 2)}
    answer_next(asking, "bob", "blue")  # everybody is asked gold questions
    assert gold_results(asking.database, asking.topic)["bob"] == (1, 0)
    assert leaders(asking.database) == [("ada", 120, 10), ("bob", 10, 1)]


def test_gold_questions_lie_among_those_that_are_there(asking: Any) -> None:
    asking.add("a")
    asking.add("b")
    asking.add(*(f"g{n}" for n in range(30)), gold="red")
    with asking.database.reading() as connection:
        gold = select(tables.questions.c.place).where(tables.questions.c.gold.is_not(None))
        found = [place for (place,) in connection.execute(gold)]
    assert all(1 <= place < 3 for place in found) and min(found) < 2.5 and max(found) > 1.5


def test_numbers_do_not_tell_which_questions_came_later_as_gold(asking: Any) -> None:
    asking.add(*(f"q{n}" for n in range(600)))
    asking.add(*(f"g{n}" for n in range(30)), gold="red")
    with asking.database.reading() as connection:
        rows = connection.execute(select(tables.questions.c.id, tables.questions.c.gold)).all()
    plain, gold = (
        [row.id for row in rows if (row.gold is not None) == is_gold] for is_gold in (0, 1)
    )
    assert len(plain) == 600 and min(gold) < max(plain) and min(plain) < max(gold)
    assert len(str(max(*plain, *gold))) <= 9  # what the page takes as a number


def test_a_clock_that_is_set_back_costs_a_row_and_nothing_else(asking: Any) -> None:
    asking.add("a", "b", people=1)
    answer_next(asking, "ada", now=NOW)
    answer_next(asking, "ada", now=NOW - 3_600)
    found = standing(asking.database, asking.topic, "ada")
    assert (found.answers, found.points, found.streak) == (2, 20, 1)


def test_questions_of_one_harvest_have_its_number(asking: Any) -> None:
    asking.add("a", "b")
    asking.add("gold", gold="red")
    asking.add("b", "c")
    found = {one.request_id: one for one in stored_questions(asking.database, asking.topic)}
    assert {*found} == {"a", "b", "c"}
    assert found["a"].harvest == found["b"].harvest < found["c"].harvest
    assert (found["a"].probability, found["a"].is_audit) == (0.25, False)


def imported(asking: Any, *said: tuple[str, int, str, str], now: float = NOW) -> Imported:
    topic = topic_id(asking.database, "colours")
    return import_answers(asking.database, topic, said, now)


def test_an_imported_answer_counts_after_the_time_on_the_page_was_over(asking: Any) -> None:
    asking.add("a", people=1)
    assert ask(asking, "ada") is not None
    later = NOW + ASSIGNMENT_SECONDS + 1
    answer_next(asking, "bob", now=later)
    done = imported(asking, ("a", 0, "ada", "blue"), now=later)
    assert (done.added, done.refused) == (1, ())
    again = imported(asking, ("a", 0, "ada", "blue"), ("a", 0, "bob", "red"), now=later)
    assert (again.added, again.known, again.refused) == (0, 2, ())
    said = {one.labeller: one.label for one in answers(asking.database, asking.topic)}
    assert said == {"ada": "blue", "bob": "red"}


def test_many_answers_are_imported_and_each_wrong_one_is_told(asking: Any) -> None:
    names = [f"q{n}" for n in range(205)]
    asking.add(*names, people=1)
    stored = stored_questions(asking.database, asking.topic)
    numbers = {one.request_id: one.question for one in stored}
    said = [(name, 0, "ada", "red") for name in names]
    said[100] = ("q100", 10**20, "ada", "red")
    said[101] = ("q101", 0, "ada", "pink")
    said[102] = ("q0", 0, "ada", "blue")
    done = imported(asking, *said)
    assert (done.added, done.known) == (202, 0)
    assert [words.partition(": ")[2][:18] for words in done.refused] == [
        "no such question; ",
        "'pink' is none of ",
        f"question {numbers['q0']}: you have answered"[:18],
    ]
    assert standing(asking.database, asking.topic, "ada").closed == 202


def test_rows_that_are_known_are_not_added_again(asking: Any) -> None:
    assert asking.add("a", "b") == (2, 0)
    assert asking.add("b", "c", "c") == (1, 1)
    assert standing(asking.database, asking.topic, "ada").questions == 3


def test_many_questions_are_added_while_others_answer_and_asked_when_all_are_there(
    asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking.add("a", "b", "c", people=1)
    seen = list[tuple[int, int]]()

    def between(_seconds: float) -> None:
        """Another process answers, and one reads, between two transactions of the first."""
        other = Database(asking.database.address, patience_seconds=0)
        stored = len([*stored_questions(other, asking.topic)])
        (found,) = next_questions(other, asking.topic, "ada", NOW)
        answer(other, found.question, "ada", "red", NOW)
        seen.append((found.question, stored))
        other.close()

    monkeypatch.setattr("serving.labels.store.questions.time.sleep", between)
    names = [f"q{number}" for number in range(401)]
    assert asking.add(*names, people=1) == (401, 0)
    assert [stored for _, stored in seen] == [3, 3]
    found = {one.question: one for one in stored_questions(asking.database, asking.topic)}
    assert {found[number].request_id for number, _ in seen} < {"a", "b", "c"}
    assert len({one.harvest for one in found.values() if one.request_id in names}) == 1


def test_questions_whose_adding_was_interrupted_are_added_by_the_same_call_as_one_harvest(
    asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    asking.add("a")
    names = [f"q{number}" for number in range(401)]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("serving.labels.store.questions.time.sleep", interrupt)
        asking.add(*names)
    assert {one.request_id for one in stored_questions(asking.database, asking.topic)} == {"a"}
    answer_next(asking, "ada")
    assert ask(asking, "ada") is None  # half a harvest is not asked
    assert asking.add(*names) == (201, 200)
    found = [*stored_questions(asking.database, asking.topic)]
    assert len({one.request_id for one in found}) == len(found) == 402
    assert {one.harvest for one in found if one.request_id != "a"} == {2}
    assert standing(asking.database, asking.topic, "ada").questions == 402


def test_of_two_rows_of_one_request_and_number_the_first_counts(asking: Any) -> None:
    new = [NewQuestion("a", 0, {"shade": shade}) for shade in ("dark", "light")]
    topic = Topic("colours", "colour", ("red", "green", "blue"), {})
    assert add_questions(asking.database, topic, new, 1) == (1, 0)
    (found,) = stored_questions(asking.database, asking.topic)
    assert found.inputs == {"shade": "dark"}


def test_a_topic_with_other_classes_is_refused(asking: Any) -> None:
    asking.add("a")
    other = Topic("colours", "colour", ("red", "pink"), {})
    with pytest.raises(ConflictError, match="classes red, green, blue, and the config has red, pi"):
        add_questions(asking.database, other, [NewQuestion("z", 0, {})], 1)


def test_a_pipeline_without_questions_is_named(asking: Any) -> None:
    with pytest.raises(NotFoundError, match="no questions about digits.*slipway labels harvest"):
        topic_id(asking.database, "digits")


def test_an_answer_waits_for_a_locked_database(asking: Any, tmp_path: Path) -> None:
    asking.add("a")
    found = ask(asking, "ada")
    assert found is not None
    other = sqlite3.connect(tmp_path / "labels.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.1, lambda: other.execute("ROLLBACK"))
    timer.start()
    answer(asking.database, found.question, "ada", "red", NOW)
    timer.join()
    other.close()
    assert len([*answers(asking.database, asking.topic)]) == 1


def test_a_database_that_stays_locked_is_told_and_nothing_is_lost(
    asking: Any, tmp_path: Path
) -> None:
    asking.add("a")
    found = ask(asking, "ada")
    assert found is not None
    impatient = Database(sqlite_url(tmp_path / "labels.db"), patience_seconds=0)
    other = sqlite3.connect(tmp_path / "labels.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServiceUnavailableError, match="database is locked; nothing was changed"):
        answer(impatient, found.question, "ada", "red", NOW)
    other.execute("ROLLBACK")
    other.close()
    answer(impatient, found.question, "ada", "red", NOW)
    assert len([*answers(asking.database, asking.topic)]) == 1


def test_who_waits_for_others_that_write_waits_no_longer_than_alone(
    asking: Any, tmp_path: Path
) -> None:
    asking.add("a")
    topic = asking.topic
    patient = Database(sqlite_url(tmp_path / "labels.db"), patience_seconds=1.0)
    other = sqlite3.connect(tmp_path / "labels.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waited = list[float]()

    def wait() -> None:
        begin = time.monotonic()
        with pytest.raises(ServiceUnavailableError, match="nothing was changed, try again"):
            next_questions(patient, topic, "ada", NOW)
        waited.append(time.monotonic() - begin)

    threads = [threading.Thread(target=wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.execute("ROLLBACK")
    other.close()
    assert len(waited) == 20 and max(waited) < 10  # one after the other they would wait 20 s


def test_what_no_second_try_can_do_is_told_at_once(asking: Any) -> None:
    begin = time.monotonic()
    with pytest.raises(ServiceUnavailableError, match="type 'dict' is not supported; nothing was"):
        asking.database.change(
            lambda connection: connection.execute(text("SELECT :a"), [{"a": {}}])
        )
    assert time.monotonic() - begin < 5  # of the ten that a locked database is waited for


def test_a_database_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "labels.db").write_bytes(b"something else" * 100)
    with pytest.raises(ServiceUnavailableError, match="labels.db: file is not a database; nothing"):
        Database(sqlite_url(tmp_path / "labels.db"), patience_seconds=0)


def test_urls_that_are_none_are_told_without_their_password() -> None:
    with pytest.raises(ConfigError, match="expected such as") as told:
        Database("nosuch://me:secret@host/name")
    assert "secret" not in str(told.value)


def test_people_at_once_lose_no_answer_and_share_no_place(asking: Any) -> None:
    asking.add(*(f"q{n}" for n in range(12)), people=2)
    failed: list[BaseException] = []

    def work(who: str) -> None:
        try:
            while (found := ask(asking, who)) is not None:
                answer(asking.database, found.question, who, "red", NOW)
        except BaseException as error:  # noqa: BLE001 (told below)
            failed.append(error)

    threads = [threading.Thread(target=work, args=(f"p{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    per_question = Counter(one.question for one in answers(asking.database, asking.topic))
    assert sorted(per_question.values()) == [2] * 12
    with asking.database.reading() as connection:
        rows = connection.execute(select(tables.questions.c.taken, tables.questions.c.is_free))
        assert {tuple(row) for row in rows} == {(2, False)}
