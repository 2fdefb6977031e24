"""Databases of the services: damage is told, backups are kept and put back."""

import sqlite3
from pathlib import Path

import pytest

from cli.stack.databases import back_up, backups_of, damage, database_of, restore
from contract.errors import UserError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = database_of(tmp_path, "mlflow")
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("create table runs (name text)")
        database.executemany("insert into runs values (?)", [(f"run {n}",) for n in range(2000)])
    return tmp_path


def names(home: Path) -> int:
    with sqlite3.connect(database_of(home, "mlflow")) as database:
        return int(database.execute("select count(*) from runs").fetchone()[0])


def overwrite(path: Path, start: int, count: int) -> None:
    content = bytearray(path.read_bytes())
    content[start : start + count] = b"\xa5" * count
    path.write_bytes(content)


def test_a_sound_database_and_an_absent_one_have_no_damage(home: Path) -> None:
    assert damage(home, "mlflow") == ""
    assert damage(home, "airflow") == ""


@pytest.mark.parametrize(("start", "count"), [(0, 100), (4096, 4096), (8192, 2000)])
def test_damage_is_told_with_the_last_backup(home: Path, start: int, count: int) -> None:
    back_up(home, "mlflow")
    overwrite(database_of(home, "mlflow"), start, count)
    said = damage(home, "mlflow")
    assert said.startswith(f"mlflow was not started: its database {database_of(home, 'mlflow')}")
    assert said.endswith("in its place: slipway up --restore mlflow")


def test_a_database_that_has_lost_its_content_is_damaged(home: Path) -> None:
    database_of(home, "mlflow").write_bytes(b"")
    assert damage(home, "mlflow") == ""  # as a first start that was killed leaves it
    (home / "backups").mkdir()
    (home / "backups" / "mlflow-20260131T000000.db").write_bytes(b"")
    assert "is damaged (the file is empty)" in damage(home, "mlflow")


def test_a_backup_that_cannot_be_read_leaves_the_database_where_it_is(home: Path) -> None:
    (home / "backups").mkdir()
    (home / "backups" / "mlflow-20260131T000000.db").write_text("this is no database" * 400)
    with pytest.raises(sqlite3.DatabaseError):
        restore(home, "mlflow")
    assert names(home) == 2000


def test_a_backup_is_put_back_and_the_damaged_one_kept(home: Path) -> None:
    back_up(home, "mlflow")
    path = database_of(home, "mlflow")
    path.write_text("this is no database")
    path.with_name("mlflow.db-wal").write_text("of the damaged one")
    said = restore(home, "mlflow")
    assert names(home) == 2000
    assert not path.with_name("mlflow.db-wal").exists()
    (kept,) = [p for p in path.parent.glob("mlflow.db.damaged-*") if not p.name.endswith("-wal")]
    assert kept.read_text() == "this is no database"
    assert str(kept) in said


def test_a_damaged_database_does_not_replace_a_backup(home: Path) -> None:
    back_up(home, "mlflow")
    before = backups_of(home, "mlflow")
    database_of(home, "mlflow").write_text("this is no database" * 400)
    back_up(home, "mlflow")
    assert backups_of(home, "mlflow") == before
    assert not [*(home / "backups").glob("*.unfinished")]


def test_three_backups_are_kept_for_their_owner_alone(home: Path) -> None:
    (home / "backups").mkdir()
    for hour in range(4):
        (home / "backups" / f"mlflow-20260131T0{hour}0000.db").write_text("")
    back_up(home, "mlflow")
    found = backups_of(home, "mlflow")
    assert len(found) == 3
    assert found[0].name == "mlflow-20260131T020000.db"
    assert found[-1].stat().st_mode & 0o077 == 0


def test_what_cannot_be_restored_is_refused(home: Path) -> None:
    with pytest.raises(UserError, match="there is no backup in"):
        restore(home, "mlflow")
    with pytest.raises(UserError, match="unknown service; did you mean 'mlflow'"):
        restore(home, "mlfow")
