"""What lies about on this machine, and goes when it is old."""

import os
import time
from pathlib import Path

import pytest

from launching.housekeeping import remove_old


def leave(path: Path, days: float) -> None:
    path.mkdir(parents=True)
    (path / "part").write_text("x")
    then = time.time() - days * 86400
    for one in (path / "part", path):
        os.utime(one, (then, then))


@pytest.mark.parametrize(
    "folder",
    [
        "logs/local/shoes/run-1",
        "airflow/logs/dag_id=shoes/run_id=r1",
        "airflow/logs/dag_processor/2026-01-01",
        "environments/0123456789abcdef",
    ],
)
def test_what_is_older_than_the_limit_goes(tmp_path: Path, folder: str) -> None:
    leave(tmp_path / folder, days=31)
    leave(tmp_path / f"{folder}-new", days=29)
    assert remove_old(tmp_path, "shoes", log_days=30) == [tmp_path / folder]
    assert not (tmp_path / folder).exists()
    assert (tmp_path / f"{folder}-new" / "part").exists()


def test_other_pipelines_logs_are_theirs_to_keep(tmp_path: Path) -> None:
    for folder in ("logs/local/boots/r1", "airflow/logs/dag_id=boots/run_id=r1"):
        leave(tmp_path / folder, days=100)
    assert remove_old(tmp_path, "shoes", log_days=1) == []


def test_a_log_that_is_still_written_to_stays(tmp_path: Path) -> None:
    run = tmp_path / "logs" / "local" / "shoes" / "run-1"
    leave(run, days=31)
    (run / "train.log").write_text("step 5")
    assert remove_old(tmp_path, "shoes", log_days=30) == []


def test_an_environment_in_use_outlives_a_short_limit(tmp_path: Path) -> None:
    leave(tmp_path / "environments" / "0123456789abcdef", days=6)
    assert remove_old(tmp_path, "shoes", log_days=1) == []
