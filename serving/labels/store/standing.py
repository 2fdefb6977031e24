"""Points, progress, the leader board, and how often somebody is right in gold questions."""

from sqlalchemy import case, func, select

from serving.labels.store.database import Database
from serving.labels.store.records import Standing
from serving.labels.store.tables import ANSWERED, assignments, labellers, questions, topics


def standing(database: Database, topic: int, labeller: str) -> Standing:
    """Return what a labeller has reached; nothing yet for one who is not known."""
    with database.reading() as connection:
        person = connection.execute(select(labellers).where(labellers.c.name == labeller)).first()
        done = connection.execute(select(topics).where(topics.c.id == topic)).one()
    points, streak, answers = (
        (person.points, person.streak, person.answers) if person else (0, 0, 0)
    )
    return Standing(labeller, points, streak, answers, done.closed, done.questions)


def leaders(database: Database, count: int = 10) -> list[tuple[str, int, int]]:
    """Return name, points and answers of those with most points, the first first."""
    query = (
        select(labellers.c.name, labellers.c.points, labellers.c.answers)
        .order_by(labellers.c.points.desc(), labellers.c.name)
        .limit(count)
    )
    with database.reading() as connection:
        return [(row.name, row.points, row.answers) for row in connection.execute(query)]


def gold_results(database: Database, topic: int) -> dict[str, tuple[int, int]]:
    """Return by labeller how many gold questions they have answered, and how many of them rightly.

    Those who answered none are not in it.
    """
    is_right = case((assignments.c.label == questions.c.gold, 1), else_=0)
    query = (
        select(labellers.c.name, func.count(), func.sum(is_right))
        .join(assignments, assignments.c.labeller == labellers.c.id)
        .join(questions, questions.c.id == assignments.c.question)
        .where(
            questions.c.topic == topic,
            questions.c.gold.is_not(None),
            assignments.c.state == ANSWERED,
        )
        .group_by(labellers.c.name)
    )
    with database.reading() as connection:
        return {name: (int(n), int(right)) for name, n, right in connection.execute(query)}
