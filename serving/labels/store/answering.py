"""Answers, skips and undoing: each is one transaction, and each refusal says what to do."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, select, update

from contract.errors import ConflictError, DataError, NotFoundError
from serving.labels.store.database import Database
from serving.labels.store.questions import (
    ASSIGNMENT_SECONDS,
    person_of,
    release,
    take_place,
)
from serving.labels.store.records import Answered
from serving.labels.store.tables import (
    ANSWERED,
    EXPIRED,
    OPEN,
    SKIPPED,
    UNSURE,
    assignments,
    decisions,
    labellers,
    questions,
    topics,
)

UNDO_SECONDS = 600.0

_POINTS = 10  # of an answer, gold or not: points tell nobody which questions are gold
_UNSURE_POINTS = 2
_BONUS_EVERY, _BONUS = 10, 20  # answers in a row
_PAUSE_SECONDS = 300.0  # after it a row begins again


def answer(database: Database, question: int, labeller: str, label: str | None, now: float) -> None:
    """Store an answer; the same one again changes nothing.

    An answer after the assignment has expired counts if nobody else has taken the place.

    Args:
        question: Its number.
        labeller: Who was asked.
        label: One of the topic's classes; None: "can't tell".
        now: Seconds since 1970, by the server's clock.

    Raises:
        NotFoundError: If the labeller was not asked this.
        DataError: If the label is none of the classes.
        ConflictError: If the labeller has answered otherwise or skipped it, or if it is closed.
    """
    database.change(lambda connection: store_answer(connection, question, labeller, label, now))


def store_answer(
    connection: Connection, question: int, labeller: str, label: str | None, now: float
) -> None:
    """As `answer`, within a transaction; one that is refused changes nothing of it."""
    person, asked = _assignment(connection, question, labeller)
    if label is not None and label not in asked.classes:
        raise DataError(
            f"question {question}: expected one of {', '.join(asked.classes)}, found "
            f"'{label[:100]}'"
        )
    if _is_same(asked, label):
        return
    _check_open(asked)
    if asked.state == EXPIRED:
        take_place(connection, question)
    _close(connection, person, asked, label, now)


def skip(database: Database, question: int, labeller: str, now: float) -> None:
    """Give a question back: others are asked it, this labeller never again.

    Raises:
        NotFoundError: If the labeller was not asked this.
        ConflictError: If they have answered it.
    """

    def store(connection: Connection) -> None:
        person, asked = _assignment(connection, question, labeller)
        if asked.state in (ANSWERED, UNSURE):
            raise ConflictError(f"question {question}: you have answered it; undo it instead")
        if asked.state == OPEN:
            release(connection, question)
        if asked.state != SKIPPED:
            _set(connection, asked, person.id, state=SKIPPED, answered_at=now)
            _add(connection, person.id, streak=-person.streak)

    database.change(store)


def undo(database: Database, topic: int, labeller: str, now: float) -> int:
    """Take a labeller's last answer of some minutes back; return the question, open again.

    Two of them at once, or one that is tried again, take the same answer back, and only once.

    Raises:
        NotFoundError: If there is none.
    """
    chosen: list[int] = []  # of the first try: a later one must not take the answer before it

    def store(connection: Connection) -> int:
        if not chosen:
            own = person_of(connection, labeller).id
            chosen.append(_last_answered(connection, topic, own, now))
        person, last = _assignment(connection, chosen[0], labeller)
        if last.state in (ANSWERED, UNSURE):
            _take_back(connection, person, last, now)
        return int(last.id)

    return database.change(store)


def answers(database: Database, topic: int) -> Iterator[Answered]:
    """Yield all answers of a topic, "can't tell" too, by question and then by time."""
    query = (
        select(
            questions,
            assignments,
            labellers.c.name,
            decisions.c.label.label("decided"),
            decisions.c.author.label("decided_by"),
        )
        .join(assignments, assignments.c.question == questions.c.id)
        .outerjoin(decisions, decisions.c.question == questions.c.id)
        .join(labellers, labellers.c.id == assignments.c.labeller)
        .where(questions.c.topic == topic, assignments.c.state.in_((ANSWERED, UNSURE)))
        .order_by(questions.c.id, assignments.c.answered_at)
    )
    with database.reading() as connection:
        for row in connection.execution_options(yield_per=1_000).execute(query):
            yield Answered(
                question=row.id,
                request_id=row.request_id,
                row=row.row,
                labeller=row.name,
                label=row.label,
                gold=row.gold,
                version=row.version,
                probability=row.probability,
                audit_probability=row.audit_probability,
                is_audit=row.is_audit,
                answered_at=row.answered_at,
                decided=row.decided,
                is_untellable=row.decided_by is not None and row.decided is None,
                is_closed=row.answers >= row.wanted,
            )


def _assigned() -> Any:
    return (
        select(
            questions.c.id,
            questions.c.topic,
            questions.c.gold,
            questions.c.wanted,
            questions.c.taken,
            questions.c.answers,
            assignments.c.state,
            assignments.c.label,
            assignments.c.points,
            topics.c.classes,
        )
        .join(assignments, assignments.c.question == questions.c.id)
        .join(topics, topics.c.id == questions.c.topic)
    )


def _assignment(connection: Connection, question: int, labeller: str) -> tuple[Row[Any], Row[Any]]:
    # one change of a question at a time
    connection.execute(select(questions.c.id).where(questions.c.id == question).with_for_update())
    person = person_of(connection, labeller)
    found = connection.execute(
        _assigned().where(questions.c.id == question, assignments.c.labeller == person.id)
    ).first()
    if found is None:
        raise NotFoundError(f"question {question}: {labeller} was not asked this")
    return person, found


def _is_same(asked: Row[Any], label: str | None) -> bool:
    if label is None:
        return bool(asked.state == UNSURE)
    return bool(asked.state == ANSWERED and asked.label == label)


def _check_open(asked: Row[Any]) -> None:
    if asked.state in (ANSWERED, UNSURE):
        said = f"'{asked.label}'" if asked.state == ANSWERED else '"can\'t tell"'
        raise ConflictError(
            f"question {asked.id}: you have answered {said}; undo it to answer otherwise"
        )
    if asked.state == SKIPPED:
        raise ConflictError(f"question {asked.id}: you have skipped it; it goes to others")
    if asked.state == EXPIRED and asked.taken >= asked.wanted:
        raise ConflictError(
            f"question {asked.id}: your time for it was over and others have it now; the next "
            "one is yours"
        )


def _close(
    connection: Connection, person: Row[Any], asked: Row[Any], label: str | None, now: float
) -> None:
    is_in_row = 0 <= now - person.last_at < _PAUSE_SECONDS
    streak = person.streak + 1 if is_in_row else 1
    points = _UNSURE_POINTS if label is None else _POINTS
    points += _BONUS if streak % _BONUS_EVERY == 0 else 0
    state = UNSURE if label is None else ANSWERED
    _set(connection, asked, person.id, state=state, label=label, answered_at=now, points=points)
    _count(connection, asked, 1)
    _add(connection, person.id, points=points, answers=1, streak=streak - person.streak)
    connection.execute(update(labellers).where(labellers.c.id == person.id).values(last_at=now))


def _last_answered(connection: Connection, topic: int, person: int, now: float) -> int:
    last: int | None = connection.execute(
        select(questions.c.id)
        .join(assignments, assignments.c.question == questions.c.id)
        .where(
            assignments.c.labeller == person,
            assignments.c.state.in_((ANSWERED, UNSURE)),
            assignments.c.answered_at >= now - UNDO_SECONDS,
            questions.c.topic == topic,
        )
        .order_by(assignments.c.answered_at.desc())
        .limit(1)
    ).scalar()
    if last is None:
        minutes = UNDO_SECONDS / 60
        raise NotFoundError(f"no answer of the last {minutes:.0f} minutes to take back")
    return last


def _take_back(connection: Connection, person: Row[Any], last: Row[Any], now: float) -> None:
    expires_at = now + ASSIGNMENT_SECONDS
    _set(connection, last, person.id, state=OPEN, label=None, expires_at=expires_at)
    _set(connection, last, person.id, answered_at=None, points=0)
    _count(connection, last, -1)
    _add(connection, person.id, points=-last.points, answers=-1, streak=-min(1, person.streak))


def _count(connection: Connection, asked: Row[Any], change: int) -> None:
    """Count an answer of a question, or one less, and whether the question is closed by it.

    `asked` was read under the question's lock.
    """
    connection.execute(
        update(questions)
        .where(questions.c.id == asked.id)
        .values(answers=questions.c.answers + change)
    )
    before, now = asked.answers >= asked.wanted, asked.answers + change >= asked.wanted
    if before != now:
        connection.execute(
            update(topics)
            .where(topics.c.id == asked.topic)
            .values(closed=topics.c.closed + (1 if now else -1))
        )


def _set(connection: Connection, asked: Row[Any], person: int, **values: Any) -> None:
    connection.execute(
        update(assignments)
        .where(assignments.c.question == asked.id, assignments.c.labeller == person)
        .values(**values)
    )


def _add(connection: Connection, person: int, **changes: int) -> None:
    columns = {name: labellers.c[name] + change for name, change in changes.items()}
    connection.execute(update(labellers).where(labellers.c.id == person).values(**columns))
