"""Questions and answers in a real PostgreSQL: many people at once, and a server that goes away."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from older_labels import differences, make_older
from postgres import Postgres, running_postgres
from sqlalchemy import Connection, text

from contract.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    ServiceUnavailableError,
)
from contract.records.access import AgentToken, AgentTokens
from contract.tokens import token_digest
from serving.labels.page.app import Desk, label_app
from serving.labels.page.door import Door
from serving.labels.page.visitors import Visitors
from serving.labels.store.answering import answer, answers, skip, undo
from serving.labels.store.database import Database
from serving.labels.store.exchange import import_answers
from serving.labels.store.questions import (
    ASSIGNMENT_SECONDS,
    add_questions,
    next_questions,
    topic_id,
)
from serving.labels.store.records import NewQuestion, Topic
from serving.labels.store.reviewing import decide, disputed, take_back
from serving.labels.store.standing import gold_results, leaders, standing
from serving.labels.store.upgrading import NEWEST
from serving.token_file import TokenFile

NOW = 1_796_000_000.0
COLOURS = Topic("colours", "colour", ("red", "green"), {"shade": {"shape": []}})
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    found = Database(postgres.url, PATIENCE_SECONDS)
    yield found
    found.close()


def test_programs_that_open_a_new_database_at_once_all_can(postgres: Postgres) -> None:
    postgres.sql("create database fresh")
    url = postgres.url.removesuffix("postgres") + "fresh"
    with ThreadPoolExecutor(8) as threads:
        opened = [*threads.map(lambda _: Database(url, PATIENCE_SECONDS), range(8))]
    assert all(differences(database) == [] for database in opened)
    for database in opened:
        database.close()


def test_a_name_that_postgresql_cannot_be_asked_for_is_not_found(database: Database) -> None:
    with pytest.raises(NotFoundError, match=r"expected a pipeline's name, found 'a\\x00b'"):
        topic_id(database, "a\0b")


def test_programs_that_upgrade_an_older_database_at_once_all_can(postgres: Postgres) -> None:
    postgres.sql("create database older")
    url = postgres.url.removesuffix("postgres") + "older"
    first = Database(url, PATIENCE_SECONDS)
    add_questions(first, COLOURS, [NewQuestion("a", 0, {"shade": "a"}, (("red", 0.6),))], people=1)
    first.close()
    make_older(url.replace("postgresql", "postgresql+psycopg2"))
    with ThreadPoolExecutor(8) as threads:
        opened = [*threads.map(lambda _: Database(url, PATIENCE_SECONDS), range(8))]
    assert topic_id(opened[0], "colours")[1] == COLOURS
    assert differences(opened[0]) == []
    for database in opened:
        database.close()
    postgres.sql("update slipway_labels_revision set version_num = '0099'", "older")
    with pytest.raises(ConfigError, match=f"revision 0099, expected {NEWEST} or an older one"):
        Database(url)


def test_people_at_once_share_questions_and_lose_nothing(database: Database) -> None:
    names = [f"q{n}" for n in range(40)]
    questions = [NewQuestion(name, 0, {"shade": name}, (("red", 0.6),)) for name in names]
    assert add_questions(database, COLOURS, questions, people=2) == (40, 0)
    assert add_questions(database, COLOURS, questions, people=2) == (0, 40)
    topic, failed = topic_id(database, "colours")[0], list[BaseException]()

    def work(who: str) -> None:
        try:
            while held := next_questions(database, topic, who, NOW, 2):
                answer(database, held[0].question, who, "red", NOW)
        except BaseException as error:  # noqa: BLE001 (told below)
            failed.append(error)

    threads = [threading.Thread(target=work, args=(f"p{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    said = [*answers(database, topic)]
    assert sorted(Counter(one.question for one in said).values()) == [2] * 40
    assert len({(one.question, one.labeller) for one in said}) == 80
    assert standing(database, topic, "p0").closed == 40
    assert sum(count for _, _, count in leaders(database)) == 80


def test_of_reviewers_who_decide_at_once_the_first_one_counts(database: Database) -> None:
    topic = Topic("sounds", "sound", tuple("abcdefgh"), {})
    add_questions(database, topic, [NewQuestion("r", 0, {})], people=1)
    number, _ = topic_id(database, "sounds")
    (held,) = next_questions(database, number, "ada", NOW)
    answer(database, held.question, "ada", "a", NOW)
    refused = list[str]()

    def work(label: str) -> None:
        try:
            decide(database, (number, held.question), f"judge-{label}", label, NOW)
        except ConflictError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=work, args=(label,)) for label in topic.classes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = disputed(database, number, held.question)
    assert found.decision is not None and found.said == (("ada", "a"),)
    first = found.decision.label
    assert found.decision.author == f"judge-{first}" and len(refused) == 7
    assert all(f"judge-{first} has decided '{first}'" in words for words in refused)
    (said,) = answers(database, number)
    assert (said.label, said.decided) == ("a", first)
    assert take_back(database, number, f"judge-{first}", NOW) == held.question
    assert disputed(database, number, held.question).decision is None


def test_expiry_skips_undo_gold_and_import_are_as_in_sqlite(database: Database) -> None:
    topic = Topic("shapes", "shape", ("round", "square"), {})
    new = [NewQuestion("a", 0, {"x": 1.5}), NewQuestion("g", 0, {}, gold="round")]
    add_questions(database, topic, new, people=1)
    number, known = topic_id(database, "shapes")
    held = {one.question: one for one in next_questions(database, number, "ada", NOW, 2)}
    plain = next(n for n, one in held.items() if one.inputs)
    gold = next(n for n in held if n != plain)
    later = NOW + ASSIGNMENT_SECONDS + 1
    assert {one.question for one in next_questions(database, number, "bob", later, 2)} == {*held}
    with pytest.raises(ConflictError, match="your time for it was over"):
        answer(database, plain, "ada", "round", later)
    answer(database, gold, "bob", "round", later)
    assert gold_results(database, number) == {"bob": (1, 1)}
    assert undo(database, number, "bob", later) == gold
    skip(database, plain, "bob", later)
    done = import_answers(database, (number, known), [("a", 0, "cy", "square")], later)
    assert (done.added, done.refused) == (1, ())
    assert standing(database, number, "cy").closed == 1


def test_two_undos_at_once_take_one_answer_back_once(database: Database) -> None:
    topic = Topic("tastes", "taste", ("sweet", "sour"), {})
    add_questions(database, topic, [NewQuestion("a", 0, {}), NewQuestion("b", 0, {})], people=1)
    number, _ = topic_id(database, "tastes")
    for second in range(2):
        (held,) = next_questions(database, number, "dan", NOW)
        answer(database, held.question, "dan", "sweet", NOW + second)
    undone = list[int]()
    twice = [
        threading.Thread(target=lambda: undone.append(undo(database, number, "dan", NOW + 2)))
        for _ in range(2)
    ]
    with database.reading() as connection:  # the question is in somebody's hands meanwhile
        connection.execute(
            text("SELECT id FROM question WHERE id = :id FOR UPDATE"), {"id": held.question}
        )
        for one in twice:
            one.start()
        _wait_for_two(database)
    for one in twice:
        one.join()
    found = standing(database, number, "dan")
    assert undone == [held.question] * 2
    assert (found.points, found.answers, found.closed) == (10, 1, 1)


def _wait_for_two(database: Database) -> None:
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        with database.reading() as connection:
            if connection.execute(waiting).scalar() == 2:
                return
        time.sleep(0.01)
    pytest.fail("the undos do not wait for the question")


def page_of(database: Database, folder: Path) -> TestClient:
    """Return a program that labels as ada, with the page over a database."""
    made = datetime(2026, 11, 29, tzinfo=UTC)
    named = {"name": "ada", "digest": token_digest("token-ada"), "created_at": made}
    AgentTokens(tokens=(AgentToken(**named, rights=("label",)),)).write(folder / "tokens.json")
    door = Door(Visitors(TokenFile(folder / "tokens.json"), "secret"))
    headers = {"Authorization": "Bearer token-ada", "Accept": "application/json"}
    application = label_app(Desk(database, door, now=lambda: NOW))
    return TestClient(application, base_url="http://labels", headers=headers)


def test_a_server_that_is_down_is_told_and_the_answer_counts_when_it_is_back(
    postgres: Postgres, database: Database, tmp_path: Path
) -> None:
    topic = Topic("sizes", "size", ("big", "small"), {})
    add_questions(database, topic, [NewQuestion("a", 0, {})], people=1)
    number, _ = topic_id(database, "sizes")
    (held,) = next_questions(database, number, "ada", NOW)
    impatient = Database(postgres.url, patience_seconds=0)
    browser = page_of(impatient, tmp_path)
    sent = {"question": held.question, "label": "big"}
    postgres.sql("checkpoint")  # what was asked in the second before a crash is asked again
    postgres.stop()
    try:
        with pytest.raises(ServiceUnavailableError, match="nothing was changed, try again"):
            answer(impatient, held.question, "ada", "big", NOW)
        told = browser.post("/p/sizes", json=sent), browser.get("/p/sizes")
    finally:
        postgres.start()
    assert [one.status_code for one in told] == [503, 503]
    for one in told:
        assert "nothing was changed, try again" in one.text
        assert "postgresql" not in one.text, "who labels need not know where it is"
    assert browser.post("/p/sizes", json=sent).status_code == 200
    assert [one.label for one in answers(database, number)] == ["big"]
    impatient.close()


def test_only_what_must_last_waits_for_the_disk(postgres: Postgres) -> None:
    database = Database(postgres.url, PATIENCE_SECONDS)

    def setting(connection: Connection) -> str:
        return str(connection.exec_driver_sql("SHOW synchronous_commit").scalar())

    assert database.change(setting, is_lasting=False) == "off"
    assert database.change(setting) == "on"
    database.close()
