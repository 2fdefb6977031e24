"""A reviewer's decisions: each is one transaction, with who decided and when."""

from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from contract.errors import ConflictError, DataError, NotFoundError
from serving.labels.store.answering import UNDO_SECONDS
from serving.labels.store.database import Database
from serving.labels.store.records import Decision, Disputed
from serving.labels.store.tables import (
    ANSWERED,
    UNSURE,
    assignments,
    decisions,
    labellers,
    questions,
    topics,
)


def decide(
    database: Database, place: tuple[int, int], author: str, label: str | None, now: float
) -> None:
    """Store the label of a question that people disagree about; the same again changes nothing.

    Args:
        place: The numbers of the topic and of the question.
        author: Who decides.
        label: One of the topic's classes; None: nobody can tell.
        now: Seconds since 1970, by the server's clock.

    Raises:
        NotFoundError: If there is no such question, or if nobody has answered it.
        DataError: If the label is none of the classes.
        ConflictError: If it is decided otherwise.
    """

    def store(connection: Connection) -> None:
        asked = _answered(connection, *place)
        if label is not None and label not in asked.classes:
            raise DataError(
                f"question {asked.id}: expected one of {', '.join(asked.classes)}, found "
                f"'{label[:100]}'"
            )
        before = _decision(connection, asked.id)
        if before is None:
            values = {"label": label, "author": author, "decided_at": now}
            connection.execute(insert(decisions).values(question=asked.id, **values))
        elif before.label != label:
            said = "that nobody can tell" if before.label is None else f"'{before.label}'"
            raise ConflictError(f"question {asked.id}: {before.author} has decided {said}")

    database.change(store)


def take_back(database: Database, topic: int, author: str, now: float) -> int:
    """Remove a reviewer's last decision of some minutes; return the question.

    Raises:
        NotFoundError: If there is none.
    """
    chosen: list[int] = []  # of the first try: a later one must not take the decision before it

    def store(connection: Connection) -> int:
        if not chosen:
            chosen.append(_last(connection, topic, author, now))
        connection.execute(
            delete(decisions).where(decisions.c.question == chosen[0], decisions.c.author == author)
        )
        return chosen[0]

    return database.change(store)


def decided(database: Database, topic: int) -> dict[int, Decision]:
    """Return a topic's decisions by question."""
    query = (
        select(decisions)
        .join(questions, questions.c.id == decisions.c.question)
        .where(questions.c.topic == topic)
    )
    with database.reading() as connection:
        return {row.question: _as_decision(row) for row in connection.execute(query)}


def disputed(database: Database, topic: int, question: int) -> Disputed:
    """Return a question with all its answers.

    Raises:
        NotFoundError: If there is none of this number, or if nobody has answered it.
    """
    with database.reading() as connection:
        asked = _answered(connection, topic, question)
        said = connection.execute(
            select(labellers.c.name, assignments.c.label)
            .join(labellers, labellers.c.id == assignments.c.labeller)
            .where(assignments.c.question == question, assignments.c.state.in_((ANSWERED, UNSURE)))
            .order_by(assignments.c.answered_at, labellers.c.id)
        )
        return Disputed(
            question=asked.id,
            inputs=asked.inputs,
            guesses=tuple((str(name), float(score)) for name, score in asked.guesses),
            said=tuple((row.name, row.label) for row in said),
            decision=_decision(connection, question),
        )


def _answered(connection: Connection, topic: int, question: int) -> Row[Any]:
    """Return a question that somebody has answered; gold ones have their label."""
    query: Any = (
        select(questions.c.id, questions.c.inputs, questions.c.guesses, topics.c.classes)
        .join(topics, topics.c.id == questions.c.topic)
        .where(
            questions.c.id == question,
            questions.c.topic == topic,
            questions.c.answers > 0,
            questions.c.gold.is_(None),
        )
    )
    found: Row[Any] | None = connection.execute(query).first()
    if found is None:
        raise NotFoundError(f"question {question}: there is nothing to decide")
    return found


def _decision(connection: Connection, question: int) -> Decision | None:
    found = connection.execute(select(decisions).where(decisions.c.question == question)).first()
    return None if found is None else _as_decision(found)


def _last(connection: Connection, topic: int, author: str, now: float) -> int:
    last: int | None = connection.execute(
        select(decisions.c.question)
        .join(questions, questions.c.id == decisions.c.question)
        .where(
            questions.c.topic == topic,
            decisions.c.author == author,
            decisions.c.decided_at >= now - UNDO_SECONDS,
        )
        .order_by(decisions.c.decided_at.desc())
        .limit(1)
    ).scalar()
    if last is None:
        minutes = UNDO_SECONDS / 60
        raise NotFoundError(f"no decision of the last {minutes:.0f} minutes to take back")
    return last


def _as_decision(row: Row[Any]) -> Decision:
    return Decision(row.question, row.label, row.author, row.decided_at)
