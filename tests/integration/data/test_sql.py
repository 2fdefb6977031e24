"""Rows of real databases become the same examples as those of a file."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import Postgres, running_postgres
from sqlalchemy import create_engine, text

from contract.errors import DataError
from contract.records.data import IngestRecord

from .conftest import Workshop, people

Edit = Callable[[str, Any], None]
PASSWORD = "hidden-Word/7"
ROWS = [dict(zip(("age", "job", "words", "income"), row, strict=True)) for row in people(300)]
CREATE = "CREATE TABLE people (id INTEGER, age INTEGER, job TEXT, words TEXT, income TEXT)"
INSERT = "INSERT INTO people VALUES (:id, :age, :job, :words, :income)"
QUERY = "SELECT id, age::int, job, words, income FROM people WHERE job LIKE '%' "


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        engine = create_engine(server.url.replace("postgresql:", "postgresql+psycopg2:"))
        with engine.begin() as connection:
            connection.execute(text(CREATE))
            rows = [{**row, "age": int(row["age"]), "id": n} for n, row in enumerate(ROWS)]
            connection.execute(text(INSERT), rows[::-1])
            connection.execute(text(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'"))
            connection.execute(text("GRANT SELECT ON people TO reader"))
        engine.dispose()
        yield server


def in_postgres(edit: Edit, query: str = QUERY) -> None:
    source = {"kind": "sql", "query": query, "url_env": "PEOPLE_DB", "order_by": ["id"]}
    edit("ingest.source", source)


def files_that_hold(folder: Path, words: str) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and words.encode() in p.read_bytes()]


def test_rows_of_postgresql_are_the_same_examples_and_leave_no_password(
    workshop: Workshop, edit: Edit, postgres: Postgres, monkeypatch, caplog
) -> None:
    expected = workshop.run("ingest", run_id="csv").artifacts["examples"].digest
    quoted = PASSWORD.replace("/", "%2F")
    monkeypatch.setenv("PEOPLE_DB", postgres.url.replace("labels@", f"reader:{quoted}@"))
    in_postgres(edit)
    result = workshop.run("ingest", run_id="sql")
    assert result.artifacts["examples"].digest == expected
    assert result.detail_as(IngestRecord).columns == ("id", "age", "job", "words", "income")
    for secret in (PASSWORD, quoted):
        assert not files_that_hold(workshop.root.parent, secret)
        assert secret not in caplog.text


def test_the_reader_cannot_write_and_a_changed_table_is_named(
    workshop: Workshop, edit: Edit, postgres: Postgres, monkeypatch
) -> None:
    monkeypatch.setenv("PEOPLE_DB", postgres.url)
    in_postgres(edit, "DELETE FROM people RETURNING *")
    with pytest.raises(DataError, match=r"sql\(PEOPLE_DB\): the query failed: "):
        workshop.run("ingest", run_id="delete")
    in_postgres(edit, "SELECT id, age, job, words FROM people")
    with pytest.raises(DataError, match=r"sql\(PEOPLE_DB\): missing columns: 'income'"):
        workshop.run("ingest", run_id="other-columns")


def test_a_wrong_login_and_a_server_that_is_away_are_named_without_the_password(
    workshop: Workshop, edit: Edit, postgres: Postgres, monkeypatch
) -> None:
    in_postgres(edit)
    url = postgres.url.replace("labels@", "nobody:hidden@")
    for run_id, wrong in (("login", url), ("away", url.replace(f":{postgres.port}/", ":1/"))):
        monkeypatch.setenv("PEOPLE_DB", wrong)
        with pytest.raises(DataError, match=r"sql\(PEOPLE_DB\): the query failed: ") as caught:
            workshop.run("ingest", run_id=run_id)
        assert "hidden" not in str(caught.value)
    monkeypatch.delenv("PEOPLE_DB")
    with pytest.raises(DataError, match="the environment variable PEOPLE_DB is missing or empty"):
        workshop.run("ingest", run_id="unset")


def test_rows_of_sqlite_with_mixed_types_are_read_and_bad_ones_counted(
    workshop: Workshop, edit: Edit
) -> None:
    expected = workshop.run("ingest", run_id="csv").artifacts["examples"].digest
    with sqlite3.connect(workshop.folder / "people.db") as database:
        database.execute(CREATE.replace("age INTEGER", "age"))
        rows = [
            {**row, "id": n, "age": int(row["age"]) if n % 2 else row["age"]}
            for n, row in enumerate(ROWS)
        ]
        database.executemany(INSERT, [*rows, {**rows[0], "id": 999, "age": "old"}])
    database.close()
    source = {"kind": "sql", "query": "SELECT * FROM people;", "database": "people.db"}
    edit("ingest.source", {**source, "order_by": ["id"]})
    result = workshop.run("ingest", run_id="sql")
    record = result.detail_as(IngestRecord)
    assert record.bad_row_reasons == {"age: not an int64": 1}
    assert result.artifacts["examples"].digest == expected
