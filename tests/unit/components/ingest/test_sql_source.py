"""Queries by DuckDB over files, and the rules of the section."""

import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from sqlalchemy import make_url

from components.data.database_queries import read_url, without_secrets
from components.data.source_columns import plain
from components.ingest.sources import sql
from contract.errors import DataError
from contract.schema.data_sources import SqlSource

URL = "postgresql://joe:s%3Fcret@host/sales?sslpassword=other"


def duckdb_source(tmp_path: Path, query: str, **more: Any) -> SqlSource:
    trips = pa.table({"fare": [10.0, 20.0, 30.0], "tips": [1.0, 5.0, 9.0], "zone": [1, 2, 1]})
    pq.write_table(trips, tmp_path / "trips.parquet")
    (tmp_path / "zones.csv").write_text("id,name\n1,Loop\n2,Lake\n")
    tables: dict[str, tuple[str, ...]] = {
        "trips": (str(tmp_path / "*.parquet"),),
        "zones": (str(tmp_path / "zones.csv"),),
    }
    return SqlSource(kind="sql", query=query, tables=tables, **more)


def test_a_database_file_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "50% of #1?.db"
    with sqlite3.connect(path) as database:
        database.execute("create table t (a integer)")
        database.executemany("insert into t values (?)", [(2,), (1,)])
    source = SqlSource(kind="sql", query="select a from t", database=str(path), order_by=("a",))
    (rows,) = sql.read(source, Path(source.place))
    assert rows.columns["a"].to_pylist() == [1, 2]


def test_a_database_is_not_ordered_by_a_column_that_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "sales.db"
    with sqlite3.connect(path) as database:
        database.execute("create table t (a integer)")
    source = SqlSource(kind="sql", query="select a from t", database=str(path), order_by=("b",))
    with pytest.raises(DataError, match=r"no such column: q\.b"):
        list(sql.read(source, Path(source.place)))


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
@pytest.mark.parametrize("is_one_file", [True, False])
def test_numbers_keep_their_value_where_the_first_ones_are_integers(
    tmp_path: Path, kind: str, is_one_file: bool
) -> None:
    parts = [[1] * 30_000 + [3.7]] if is_one_file else [[1]] * 40 + [[3.7]]
    for number, values in enumerate(parts):
        path = tmp_path / f"{number:02}.{kind}"
        if kind == "parquet":
            pq.write_table(pa.table({"x": pa.array(values)}), path)
        elif kind == "csv":
            path.write_text("x,y\n" + "".join(f"{value},0\n" for value in values))
        else:
            path.write_text("".join(f'{{"x": {value}}}\n' for value in values))
    source = SqlSource(
        kind="sql", query="SELECT max(x) AS x FROM t", tables={"t": (str(tmp_path / "*"),)}
    )
    (rows,) = sql.read(source, Path(source.place))
    assert rows.columns["x"].to_pylist() == [3.7]


def test_times_do_not_depend_on_the_zone_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    query = "SELECT TIMESTAMPTZ '2024-01-01 00:00:00+00' AS t, t::DATE AS day FROM zones LIMIT 1"
    source = duckdb_source(tmp_path, query)
    (rows,) = sql.read(source, Path(source.place))
    assert str(plain(rows.columns["t"])[0][0]) == "2024-01-01 00:00:00Z"
    assert str(rows.columns["day"][0]) == "2024-01-01"


def test_labels_and_features_are_computed_over_files(tmp_path: Path) -> None:
    query = """
        SELECT fare, name, tips > 0.2 * fare AS big_tip  -- the label
        FROM trips JOIN zones ON zone = id;"""
    source = duckdb_source(tmp_path, query, order_by=("fare",))
    (file,) = sql.files(source)
    assert str(file) == "sql(trips, zones)"
    assert sql.columns(source, file) == ("fare", "name", "big_tip")
    (rows,) = sql.read(source, file)
    assert rows.columns.to_pydict() == {
        "fare": [10.0, 20.0, 30.0],
        "name": ["Loop", "Lake", "Loop"],
        "big_tip": [False, True, True],
    }
    assert rows.rows.tolist() == [1, 2, 3]
    size = (tmp_path / "trips.parquet").stat().st_size + (tmp_path / "zones.csv").stat().st_size
    assert sql.size_bytes(source, file) == size
    assert [Path(path).name for path in source.data_states()] == ["trips.parquet", "zones.csv"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT fares FROM trips", 'sql.trips, zones.: the query failed: .*"fares" not found'),
        ("SELEC 1", "the query failed: Parser Error"),
        ("SELECT 1; DROP VIEW trips", "the query failed: Parser Error"),
        ("SELECT * FROM read_text('/etc/hostname')", "the query failed: Permission Error"),
    ],
)
def test_a_wrong_query_is_refused_in_words(tmp_path: Path, query: str, message: str) -> None:
    source = duckdb_source(tmp_path, query)
    with pytest.raises(DataError, match=message):
        sql.columns(source, Path(source.place))


def test_a_query_without_rows_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    source = duckdb_source(tmp_path, "SELECT * FROM trips WHERE fare > 99")
    with pytest.raises(DataError, match=r"sql\(trips, zones\): no rows"):
        list(sql.read(source, Path(source.place)))
    path = tmp_path / "trips.parquet"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"trips\.parquet"):
        list(sql.read(source, Path(source.place)))
    (tmp_path / "notes.txt").write_text("x")
    foreign = source.model_copy(update={"tables": {"notes": (str(tmp_path / "notes.txt"),)}})
    with pytest.raises(DataError, match=r"notes\.txt: expected files of one format"):
        list(sql.read(foreign, Path(source.place)))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "expected one of tables, database, url_env, url_file; found none"),
        ({"database": "a.db", "url_env": "X"}, "found database and url_env"),
        ({"url_env": "SALES"}, "order_by: a database returns rows in any order"),
        ({"url_env": URL, "order_by": ("id",)}, "expected the name of an environment variable"),
    ],
)
def test_a_section_names_one_place_and_an_order(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SqlSource(kind="sql", query="SELECT 1", **keys)


def test_the_url_is_read_where_the_config_says(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SALES", f" {URL}\n")
    (tmp_path / "url").write_text(URL)
    expected = make_url(URL).set(drivername="postgresql+psycopg2")
    assert read_url("sql(SALES)", "SALES", None) == expected
    assert read_url("sql(url)", None, str(tmp_path / "url")) == expected


@pytest.mark.parametrize("found", ["", "hidden words", "nosuch://joe:hidden@host/db"])
def test_a_url_that_is_missing_or_wrong_is_refused_without_its_text(monkeypatch, found) -> None:
    monkeypatch.setenv("SALES", found)
    with pytest.raises(DataError, match=r"sql\(SALES\): the environment variable SALES") as caught:
        read_url("sql(SALES)", "SALES", None)
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_secrets_are_masked_plain_and_quoted() -> None:
    said = f"cannot use {URL}: s?cret, s%3Fcret or other is wrong for joe"
    masked = without_secrets(said, make_url(URL))
    assert masked == "cannot use ***: ***, *** or *** is wrong for joe"
