"""Adding questions, and giving the next one to a labeller."""

import random
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, and_, exists, insert, select, update

from contract.errors import NotFoundError
from serving.labels.store.adding import add_some, complete, is_complete
from serving.labels.store.database import Database
from serving.labels.store.records import Asked, NewQuestion, Topic
from serving.labels.store.tables import (
    EXPIRED,
    OPEN,
    assignments,
    labellers,
    questions,
    topics,
)

ASSIGNMENT_SECONDS = 600.0  # then somebody else may get the question

_AT_ONCE = 200  # questions added in one transaction: others can write after 20 to 60 ms
# Between two of them. A process that waits for SQLite looks every 25 ms when it has waited so long.
_PAUSE_SECONDS = 0.05
_EXPIRED_AT_ONCE = 100
_SHOWN_CHARACTERS = 100  # of a name in a message


def add_questions(
    database: Database, topic: Topic, new: Iterable[NewQuestion], people: int
) -> tuple[int, int]:
    """Add the questions that are not there yet; return how many were added and how many known.

    They are asked in an order of chance and have numbers by chance, so that nobody sees which ones
    are unsure, audited or gold. Gold questions lie among those that are there already, and are
    asked of everybody.

    Many are added in several transactions, between which others can write. None is asked before
    all are there. After an interruption the rest is added by the same call again.

    Args:
        topic: A new one is made; the classes of a known one must be the same.
        new: Rows; of the same request and row the first counts.
        people: Answers that each question wants, at least 1.

    Raises:
        ConflictError: If the topic has other classes.
    """
    wanted = {(one.request_id, one.row): one for one in reversed([*new])}
    places, added, known, began = [*wanted], 0, 0, 0.0
    random.shuffle(places)
    for first in range(0, len(places), _AT_ONCE):
        if first:
            time.sleep(max(_PAUSE_SECONDS, time.monotonic() - began))
        began = time.monotonic()
        some = {place: wanted[place] for place in places[first : first + _AT_ONCE]}
        done = database.change(partial(add_some, topic=topic, wanted=some, people=people))
        added, known = added + done[0], known + done[1]
    database.change(partial(complete, topic=topic))
    return added, known


def topic_id(database: Database, pipeline: str, head: str = "") -> tuple[int, Topic]:
    """Return the number of a topic and what it is.

    Raises:
        NotFoundError: If nothing is asked about that pipeline, or about several heads of it.
    """
    if "\0" in pipeline:  # PostgreSQL could not even be asked
        raise NotFoundError(f"expected a pipeline's name, found {pipeline[:_SHOWN_CHARACTERS]!r}")
    with database.reading() as connection:
        found = connection.execute(select(topics).where(topics.c.pipeline == pipeline)).all()
    known = {row.head: row for row in found}
    if len(known) == 1 and not head:
        head = next(iter(known))
    if head not in known:
        heads, named = ", ".join(known) or "none", pipeline[:_SHOWN_CHARACTERS]
        asked = f"{named}{f', head {head[:_SHOWN_CHARACTERS]}' * bool(head)}"
        raise NotFoundError(
            f"{database.address}: no questions about {asked} (heads: {heads}); 'slipway labels "
            f"harvest {named}' makes some"
        )
    row = known[head]
    return row.id, Topic(row.pipeline, row.head, tuple(row.classes), row.features)


def pipelines(database: Database) -> list[tuple[str, str]]:
    """Return the pipelines and heads about which something is asked."""
    with database.reading() as connection:
        found = connection.execute(
            select(topics.c.pipeline, topics.c.head).order_by(topics.c.pipeline, topics.c.head)
        )
        return [(row.pipeline, row.head) for row in found]


def next_questions(
    database: Database, topic: int, labeller: str, now: float, count: int = 1
) -> list[Asked]:
    """Return what a labeller is asked now: what is in their hands, and new ones up to `count`.

    Args:
        topic: Its number.
        labeller: Their name; they are noted where they are new.
        now: Seconds since 1970, by the server's clock.
        count: Questions that are to be in their hands: the one on the page, and the next.
    """

    def take(connection: Connection) -> list[Asked]:
        _release_expired(connection, now)
        person = person_of(connection, labeller)
        held = _held(connection, topic, person.id)
        reached = person.reached
        while len(held) < count:
            found = _free(connection, topic, person.id, reached)
            if found is None:
                break
            _assign(connection, found, person.id, now)
            reached = found.place
            held.append(found)
        held.sort(key=lambda row: float(row.place))
        return [Asked(row.id, row.inputs, _pairs(row.guesses)) for row in held[:count]]

    return database.change(take, is_lasting=False)  # lost, it would be asked again


def person_of(connection: Connection, name: str) -> Row[Any]:
    """Return a labeller's row, a new one where there is none."""
    query = select(labellers).where(labellers.c.name == name)
    if (found := connection.execute(query).first()) is not None:
        return found
    connection.execute(insert(labellers).values(name=name))
    return connection.execute(query).one()


def release(connection: Connection, question: int) -> None:
    """Let somebody else have a question that is in one person's hands less."""
    connection.execute(
        update(questions)
        .where(questions.c.id == question)
        .values(taken=questions.c.taken - 1, is_free=questions.c.taken - 1 < questions.c.wanted)
    )


def take_place(connection: Connection, question: int) -> None:
    """Count one more who has a question in hand."""
    connection.execute(
        update(questions)
        .where(questions.c.id == question)
        .values(taken=questions.c.taken + 1, is_free=questions.c.taken + 1 < questions.c.wanted)
    )


def assign(connection: Connection, question: int, person: int, now: float) -> None:
    """Give a question to a person, again if their time for it was over."""
    values = {"state": OPEN, "expires_at": now + ASSIGNMENT_SECONDS}
    again = connection.execute(
        update(assignments)
        .where(
            assignments.c.question == question,
            assignments.c.labeller == person,
            assignments.c.state == EXPIRED,
        )
        .values(**values)
    )
    if not again.rowcount:
        connection.execute(insert(assignments).values(question=question, labeller=person, **values))
    take_place(connection, question)


def _release_expired(connection: Connection, now: float) -> None:
    rows = connection.execute(
        select(assignments.c.question, assignments.c.labeller)
        .where(assignments.c.state == OPEN, assignments.c.expires_at < now)
        .limit(_EXPIRED_AT_ONCE)
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        connection.execute(
            update(assignments)
            .where(assignments.c.question == row.question, assignments.c.labeller == row.labeller)
            .values(state=EXPIRED)
        )
        release(connection, row.question)


def _held(connection: Connection, topic: int, person: int) -> list[Row[Any]]:
    return [
        *connection.execute(
            select(questions)
            .join(assignments, assignments.c.question == questions.c.id)
            .where(
                assignments.c.labeller == person,
                assignments.c.state == OPEN,
                questions.c.topic == topic,
            )
            .order_by(questions.c.place)
        )
    ]


def _free(connection: Connection, topic: int, person: int, reached: float) -> Row[Any] | None:
    """Return the next question behind the last one, else one before it that became free.

    When there are no others, one comes again for which the person's own time was over.
    """
    own = (assignments.c.question == questions.c.id, assignments.c.labeller == person)
    is_new = ~exists().where(*own)
    batches = select(topics.c.batches).where(topics.c.id == topic).scalar_subquery()
    for which in (
        and_(is_new, questions.c.place > reached),
        and_(is_new, questions.c.place <= reached),
        exists().where(*own, assignments.c.state == EXPIRED),
    ):
        found = connection.execute(
            select(questions)
            .where(questions.c.topic == topic, questions.c.is_free, is_complete(batches), which)
            .order_by(questions.c.place)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).first()
        if found is not None:
            return found
    return None


def _assign(connection: Connection, question: Row[Any], person: int, now: float) -> None:
    assign(connection, question.id, person, now)
    connection.execute(
        update(labellers).where(labellers.c.id == person).values(reached=question.place)
    )


def _pairs(guesses: Iterable[Sequence[Any]]) -> tuple[tuple[str, float], ...]:
    return tuple((str(name), float(score)) for name, score in guesses)
