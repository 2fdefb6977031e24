"""What becomes of new questions: which ones are known, their numbers, and their places."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from contract.errors import ConflictError
from serving.labels.store.records import NewQuestion, Topic
from serving.labels.store.tables import questions, topics

Place = tuple[str, int]  # a request's id and the number of one of its rows

_EVERYBODY = 1_000_000  # answers that a gold question wants
_LARGEST_NUMBER = 999_999_999  # of a question; it fits into every database's integers
_IDS_AT_ONCE = 500  # in one statement


def add_some(
    connection: Connection, topic: Topic, wanted: Mapping[Place, NewQuestion], people: int
) -> tuple[int, int]:
    """Add some questions of a batch that is not complete; return how many, and how many are known.

    They are asked when `complete` has been called: until then no harvest is there in part.
    """
    own = _topic(connection, topic)
    known = _known(connection, own.id, [*wanted])
    fresh = [one for place, one in wanted.items() if place not in known]
    numbers = _unused_numbers(connection, len(fresh))
    rows = [
        {"id": number, **_row(one, own.id, own.batches, people)}
        for number, one in zip(numbers, fresh, strict=True)
    ]
    if rows:
        connection.execute(insert(questions), rows)
    asked = sum(one.gold is None for one in fresh)
    connection.execute(
        update(topics).where(topics.c.id == own.id).values(questions=topics.c.questions + asked)
    )
    return len(rows), len(known)


def complete(connection: Connection, topic: Topic) -> None:
    """Let the questions be asked that were added since the last call, as one batch."""
    own = _topic(connection, topic)
    connection.execute(
        update(topics).where(topics.c.id == own.id).values(batches=topics.c.batches + 1)
    )


def is_complete(batches: Any) -> Any:
    """Return the condition that a question's batch is complete.

    Args:
        batches: The column or the number of complete batches of the topic.
    """
    return questions.c.place < 1 + batches


def _topic(connection: Connection, topic: Topic) -> Row[Any]:
    query = select(topics).where(topics.c.pipeline == topic.pipeline, topics.c.head == topic.head)
    found = connection.execute(query.with_for_update()).first()
    if found is None:
        values = {"classes": [*topic.classes], "features": dict(topic.features)}
        named = {"pipeline": topic.pipeline, "head": topic.head}
        connection.execute(insert(topics).values(**named, **values))
        return connection.execute(query).one()
    if found.classes != [*topic.classes]:
        raise ConflictError(
            f"{topic.pipeline}, head {topic.head}: questions are open with the classes "
            f"{', '.join(found.classes)}, and the config has {', '.join(topic.classes)}; use "
            "another database for the new classes"
        )
    return found


def _known(
    connection: Connection, topic: int, places: Sequence[tuple[str, int]]
) -> set[tuple[str, int]]:
    found = set[tuple[str, int]]()
    for some in (places[at : at + _IDS_AT_ONCE] for at in range(0, len(places), _IDS_AT_ONCE)):
        ids = {request_id for request_id, _ in some}
        rows = connection.execute(
            select(questions.c.request_id, questions.c.row).where(
                questions.c.topic == topic, questions.c.request_id.in_(ids)
            )
        )
        found |= {(row.request_id, row.row) for row in rows} & {*some}
    return found


def _unused_numbers(connection: Connection, count: int) -> list[int]:
    """Return numbers by chance: they say nothing of when, or as what, a question came."""
    found = list[int]()
    while len(found) < count:
        some = random.sample(range(1, _LARGEST_NUMBER + 1), min(count - len(found), _IDS_AT_ONCE))
        query = select(questions.c.id).where(questions.c.id.in_(some))
        used = {*connection.execute(query).scalars(), *found}
        found += [number for number in some if number not in used]
    return found


def _row(one: NewQuestion, topic: int, batch: int, people: int) -> dict[str, Any]:
    return {
        "topic": topic,
        "request_id": one.request_id,
        "row": one.row,
        "version": one.version,
        "inputs": dict(one.inputs),
        "guesses": [list(guess) for guess in one.guesses],
        "probability": one.probability,
        "audit_probability": one.audit_probability,
        "is_audit": one.is_audit,
        "gold": one.gold,
        "wanted": people if one.gold is None else _EVERYBODY,
        "place": _place(batch, one.gold is not None),
    }


def _place(batch: int, is_gold: bool) -> float:
    """Return a place by chance: in its batch, or, of a gold question, anywhere among all others."""
    return 1 + (random.random() * max(batch, 1) if is_gold else batch + random.random())
