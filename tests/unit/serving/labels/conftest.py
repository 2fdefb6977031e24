"""A database with questions about colours."""

from pathlib import Path

import pytest

from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.questions import add_questions, topic_id
from serving.labels.store.records import NewQuestion, Topic

COLOURS = Topic("colours", "colour", ("red", "green", "blue"), {"shade": {"shape": []}})
NOW = 1_796_000_000.0


def question(name: str, gold: str | None = None) -> NewQuestion:
    guesses = (("green", 0.5), ("blue", 0.3), ("red", 0.2))
    return NewQuestion(name, 0, {"shade": name}, guesses, version=3, probability=0.25, gold=gold)


class Asking:
    """A store of questions, as a test speaks of it."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(sqlite_url(folder / "labels.db"))

    def add(self, *names: str, people: int = 2, gold: str | None = None) -> tuple[int, int]:
        return add_questions(self.database, COLOURS, [question(n, gold) for n in names], people)

    @property
    def topic(self) -> int:
        return topic_id(self.database, "colours")[0]


@pytest.fixture
def asking(tmp_path: Path) -> Asking:
    return Asking(tmp_path)
