"""Questions and answers that go to other tools, or come from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import Connection, select

from contract.errors import ConflictError
from serving.labels.store.adding import is_complete
from serving.labels.store.answering import store_answer
from serving.labels.store.database import Database
from serving.labels.store.questions import assign, person_of
from serving.labels.store.records import Question, Topic
from serving.labels.store.tables import EXPIRED, OPEN, assignments, questions, topics

Said = tuple[str, int, str, str]  # request, row, labeller, label

_AT_ONCE = 200  # answers in one transaction: others can write after a tenth of a second
_LARGEST_ROW = 2**31 - 1


@dataclass(frozen=True)
class Imported:
    """What became of answers from elsewhere."""

    added: int = 0
    known: int = 0  # the same answer of the same person
    refused: tuple[str, ...] = ()


def stored_questions(database: Database, topic: int) -> Iterator[Question]:
    """Yield all questions of a topic that are not gold."""
    query = (
        select(questions)
        .join(topics, topics.c.id == questions.c.topic)
        .where(
            questions.c.topic == topic,
            questions.c.gold.is_(None),
            is_complete(topics.c.batches),
        )
        .order_by(questions.c.id)
    )
    with database.reading() as connection:
        for row in connection.execution_options(yield_per=1_000).execute(query):
            yield Question(
                question=row.id,
                request_id=row.request_id,
                row=row.row,
                inputs=row.inputs,
                guesses=tuple((str(name), float(score)) for name, score in row.guesses),
                version=row.version,
                probability=row.probability,
                audit_probability=row.audit_probability,
                is_audit=row.is_audit,
                harvest=int(row.place),  # its batch, and a fraction by chance
            )


def batches_asked(database: Database, pipeline: str, head: str) -> int:
    """Return how many batches of questions there are about a head; 0 if nobody was asked."""
    query = select(topics.c.batches).where(topics.c.pipeline == pipeline, topics.c.head == head)
    with database.reading() as connection:
        return connection.execute(query).scalar() or 0


def asked_inputs(
    database: Database, pipeline: str, head: str, batches: int
) -> Iterator[Mapping[str, Any]]:
    """Yield the inputs of the first batches of questions, without those that teach no model.

    An audit question may be asked again to learn from it, and a gold one is known.
    """
    query = (
        select(questions.c.inputs)
        .join(topics, topics.c.id == questions.c.topic)
        .where(
            topics.c.pipeline == pipeline,
            topics.c.head == head,
            questions.c.gold.is_(None),
            questions.c.is_audit.is_(False),
            is_complete(batches),
        )
    )
    with database.reading() as connection:
        yield from connection.execution_options(yield_per=1_000).execute(query).scalars()


def import_answers(
    database: Database, topic: tuple[int, Topic], said: Iterable[Said], now: float
) -> Imported:
    """Store answers that people gave elsewhere, each as if it had been given on the page.

    They count beyond the number of wanted answers: they are there already. What was stored before
    an error stays, and is known when the file is imported again.
    """
    answers, done = iter(said), Imported()
    while some := [*islice(answers, _AT_ONCE)]:
        taken = database.change(partial(_take, topic=topic, said=some, now=now))
        done = Imported(
            done.added + taken.added, done.known + taken.known, (*done.refused, *taken.refused)
        )
    return done


def _take(
    connection: Connection, topic: tuple[int, Topic], said: Sequence[Said], now: float
) -> Imported:
    """Store some answers in one transaction."""
    added, known, refused = 0, 0, list[str]()
    for request_id, row, labeller, label in said:
        where = f"{request_id}, row {row}, {labeller}"
        if label not in topic[1].classes:
            refused.append(f"{where}: '{label[:100]}' is none of {', '.join(topic[1].classes)}")
            continue
        number = _question(connection, topic[0], request_id, row)
        if number is None:
            refused.append(f"{where}: no such question; harvest it first")
            continue
        is_known = not _assign_once(connection, number, labeller, now)
        try:
            store_answer(connection, number, labeller, label, now)
        except ConflictError as error:
            refused.append(f"{where}: {error}")
        else:
            added, known = added + (not is_known), known + is_known
    return Imported(added, known, tuple(refused))


def _question(connection: Connection, topic: int, request_id: str, row: int) -> int | None:
    if row > _LARGEST_ROW:  # no database column of integers holds it
        return None
    found: int | None = connection.execute(
        select(questions.c.id).where(
            questions.c.topic == topic,
            questions.c.request_id == request_id,
            questions.c.row == row,
        )
    ).scalar()
    return found


def _assign_once(connection: Connection, question: int, labeller: str, now: float) -> bool:
    """Give a question to a labeller who does not have it; return whether it is open then."""
    person = person_of(connection, labeller).id
    before = connection.execute(
        select(assignments.c.state).where(
            assignments.c.question == question, assignments.c.labeller == person
        )
    ).scalar()
    if before in (None, EXPIRED):
        assign(connection, question, person, now)
    return before in (None, EXPIRED, OPEN)
