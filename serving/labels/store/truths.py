"""What has turned out to be true of predictions: the newest word of each row counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from serving.labels.store.database import Database
from serving.labels.store.records import Topic, Truth
from serving.labels.store.tables import truths

_LARGEST_ROW = 2**31 - 1
_LONGEST_ID = 500


@dataclass(frozen=True)
class Told:
    """What became of the labels of one message; `refused` says where and why."""

    added: int = 0
    known: int = 0
    corrected: int = 0
    refused: tuple[str, ...] = ()


def tell(
    database: Database, topic: tuple[int, Topic], said: Sequence[Truth], author: str, now: float
) -> Told:
    """Store labels in one transaction; another label for a known row replaces the earlier one.

    Whether a prediction has this request id is not asked: the log may come later than the truth.
    Labels that are not valid are refused, and so are all labels of a row that contradict each
    other; the others are stored.

    Raises:
        ServiceUnavailableError: If the database does not answer. Nothing was stored then.
    """
    wanted, refused = dict[tuple[str, int], str](), list[str]()
    labels = dict[tuple[str, int], set[str]]()
    for number, one in enumerate(said):
        if problem := _problem(one, topic[1].classes):
            refused.append(f"label {number}: {problem}")
        else:
            labels.setdefault((one.request_id, one.row), set()).add(one.label)
    for (request_id, row), found in labels.items():
        if len(found) == 1:
            wanted[request_id, row] = found.pop()
        else:
            refused.append(f"{request_id}, row {row}: found {', '.join(sorted(found))} for one row")

    def store(connection: Connection) -> Told:
        known = _known(connection, topic[0], {request_id for request_id, _ in wanted})
        new = [place for place in wanted if place not in known]
        other = [place for place in wanted if known.get(place, wanted[place]) != wanted[place]]
        told = {"author": author, "told_at": now}
        if new:
            rows = [{**_key(topic[0], place), "label": wanted[place], **told} for place in new]
            connection.execute(insert(truths), rows)
        for place in other:
            own = (truths.c[name] == value for name, value in _key(topic[0], place).items())
            connection.execute(update(truths).where(*own).values(label=wanted[place], **told))
        same = len(wanted) - len(new) - len(other)
        return Told(len(new), same, len(other), tuple(refused))

    return database.change(store) if wanted else Told(refused=tuple(refused))


def told(database: Database, topic: int) -> Iterator[Truth]:
    """Yield what is known to be true, by request and row."""
    query = (
        select(truths.c.request_id, truths.c.row, truths.c.label)
        .where(truths.c.topic == topic)
        .order_by(truths.c.request_id, truths.c.row)
    )
    with database.reading() as connection:
        for row in connection.execution_options(yield_per=1_000).execute(query):
            yield Truth(row.request_id, row.row, row.label)


def _problem(one: Truth, classes: Sequence[str]) -> str:
    if not 0 < len(one.request_id) <= _LONGEST_ID or "\0" in one.request_id:
        return f"expected a request_id of 1 to {_LONGEST_ID} characters, none of them NUL"
    if not 0 <= one.row <= _LARGEST_ROW:
        return f"expected the number of a row, from 0, found {one.row}"
    if one.label not in classes:
        return f"expected one of {', '.join(classes)}, found '{one.label[:100]}'"
    return ""


def _known(connection: Connection, topic: int, ids: set[str]) -> dict[tuple[str, int], str]:
    query = select(truths.c.request_id, truths.c.row, truths.c.label).where(
        truths.c.topic == topic, truths.c.request_id.in_(ids)
    )
    return {(row.request_id, row.row): row.label for row in connection.execute(query)}


def _key(topic: int, place: tuple[str, int]) -> dict[str, Any]:
    return {"topic": topic, "request_id": place[0], "row": place[1]}
