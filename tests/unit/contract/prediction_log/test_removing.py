import os
from datetime import UTC, datetime, timedelta

import pytest

from contract.prediction_log.files import complete_files
from contract.prediction_log.removing import tidy_log
from contract.schema.serving import ServeConfig

HOUR = datetime(2026, 11, 29, 15, tzinfo=UTC)
NOW = HOUR + timedelta(minutes=30)


def hours_ago(count: float) -> datetime:
    return HOUR - timedelta(hours=count)


def kept(folder):
    return {file.first for file in complete_files(folder)}


def test_an_hour_is_kept_until_its_last_row_is_too_old(tmp_path, write):
    for first, hour in enumerate((hours_ago(48), hours_ago(25), hours_ago(24), HOUR)):
        write(first, first + 1, hour=hour)
    assert tidy_log(tmp_path, ServeConfig(prediction_log_days=1), NOW) == 2
    assert kept(tmp_path) == {2, 3}
    assert not (tmp_path / "date=2026-11-27").exists()
    assert not (tmp_path / "date=2026-11-28/hour=14").exists()


def test_the_oldest_rows_go_until_the_size_is_kept_within_an_hour_too(tmp_path, write):
    files = [write(first, first + 1, hour=hours_ago(3 if first == 0 else 0)) for first in range(5)]
    limit = sum(file.path.stat().st_size for file in files[2:])
    assert tidy_log(tmp_path, ServeConfig(prediction_log_max_mb=limit / 2**20), NOW) == 2
    assert kept(tmp_path) == {2, 3, 4}


def test_many_small_files_within_both_limits_are_all_kept(tmp_path, write):
    for first in range(100):
        write(first, first + 1, server=f"host-{first}-a")
    assert tidy_log(tmp_path, ServeConfig(), NOW) == 0
    assert len(complete_files(tmp_path)) == 100


@pytest.mark.parametrize(("ago", "files"), [(0, 3), (2, 3), (3, 1)])
def test_the_small_files_of_a_killed_server_are_merged_when_it_writes_no_more(
    tmp_path, write, ago, files
):
    for first in range(3):
        write(first, first + 1, hour=hours_ago(ago))
    write(7, 8, server="host-1-b", hour=hours_ago(ago))
    assert tidy_log(tmp_path, ServeConfig(), NOW) == 0
    found = [file for file in complete_files(tmp_path) if file.server == "host-1-a"]
    assert len(found) == files
    assert (found[0].first, found[-1].end) == (0, 3)


def test_what_a_killed_server_was_writing_goes_but_not_what_is_being_written(tmp_path, write):
    folder = write(0, 1).path.parent
    old, new = folder / ".writing-old", folder / ".writing-new"
    for path, ago in ((old, 3), (new, 0)):
        path.write_bytes(b"PAR1")
        os.utime(path, (hours_ago(ago).timestamp(),) * 2)
    tidy_log(tmp_path, ServeConfig(), NOW)
    assert (old.exists(), new.exists()) == (False, True)


def test_logs_of_the_old_form_go_by_the_same_limits(tmp_path, write):
    write(0, 1)
    for name, ago in (("1", 50), ("2", 20), ("3", 1)):
        path = tmp_path / f"0000000{name}.jsonl"
        path.write_text("x" * 1000)
        os.utime(path, (hours_ago(ago).timestamp(),) * 2)
    assert tidy_log(tmp_path, ServeConfig(prediction_log_days=1), NOW) == 1
    size = complete_files(tmp_path)[0].path.stat().st_size + 1500
    assert tidy_log(tmp_path, ServeConfig(prediction_log_max_mb=size / 2**20), NOW) == 1
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["00000003.jsonl"]


def test_no_log_is_nothing_to_tidy(tmp_path):
    assert tidy_log(tmp_path / "none", ServeConfig(), NOW) == 0
