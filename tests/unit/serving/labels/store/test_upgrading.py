"""Tables of an older Slipway are upgraded with their rows; those of a newer one are refused."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from older_labels import differences, make_older

from contract.errors import ConfigError
from serving.labels.store.answering import answer, answers
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.questions import next_questions

NOW = 1_796_000_000.0


def older(asking: Any, tmp_path: Path) -> str:
    """Make an older database with an answer of Ada's; return its URL."""
    asking.add("a", "b")
    (held,) = next_questions(asking.database, asking.topic, "ada", NOW, 1)
    answer(asking.database, held.question, "ada", "red", NOW)
    asking.database.close()
    url = sqlite_url(tmp_path / "labels.db")
    make_older(url)
    return url


def tables_of(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        return {name for (name,) in connection.execute("select name from sqlite_master")}


def test_a_new_database_has_the_tables_that_the_code_knows(asking: Any) -> None:
    assert differences(asking.database) == []


def test_an_older_database_is_upgraded_and_keeps_its_answers(asking: Any, tmp_path: Path) -> None:
    database = Database(older(asking, tmp_path))
    assert [one.label for one in answers(database, asking.topic)] == ["red"]
    assert differences(database) == []
    assert "slipway_labels" not in tables_of(tmp_path / "labels.db")


def test_programs_that_upgrade_at_once_all_can(asking: Any, tmp_path: Path) -> None:
    url = older(asking, tmp_path)
    with ThreadPoolExecutor(4) as threads:
        opened = [*threads.map(lambda _: Database(url), range(4))]
    assert [one.label for one in answers(opened[0], asking.topic)] == ["red"]


def test_an_upgrade_that_fails_changes_nothing(asking: Any, tmp_path: Path) -> None:
    url, path = older(asking, tmp_path), tmp_path / "labels.db"
    before = tables_of(path)
    with sqlite3.connect(path) as connection:  # in the way of the second revision
        connection.execute("create table keeper (form references slipway_labels(version))")
        connection.execute("insert into keeper values (1)")
    with pytest.raises(Exception, match="FOREIGN KEY"):
        Database(url, patience_seconds=0.0)
    assert tables_of(path) == before | {"keeper"}


def test_tables_of_a_newer_slipway_are_refused(asking: Any, tmp_path: Path) -> None:
    asking.database.close()
    with sqlite3.connect(tmp_path / "labels.db") as connection:
        connection.execute("update slipway_labels_revision set version_num = '0099'")
    with pytest.raises(ConfigError, match="its tables have revision 0099, expected 0003 or an old"):
        Database(sqlite_url(tmp_path / "labels.db"))
