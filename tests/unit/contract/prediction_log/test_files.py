import os
from datetime import UTC, datetime, timedelta, timezone

import pytest

from contract.prediction_log.files import (
    LogFile,
    complete_files,
    hour_of,
    server_name,
    without_contained,
)

HOUR = datetime(2026, 11, 29, 15, tzinfo=UTC)


def test_a_file_lies_in_the_folder_of_its_hour_in_utc(tmp_path):
    berlin = datetime(2026, 11, 30, 0, 59, 59, tzinfo=timezone(timedelta(hours=1)))
    file = LogFile(hour_of(berlin), "host-1-a", 5, 12, tmp_path)
    name = "date=2026-11-29/hour=23/host-1-a.000000000005-000000000012.parquet"
    assert file.path == tmp_path / name


def test_only_complete_files_are_found_in_the_order_of_hours_servers_and_rows(tmp_path, write):
    later = HOUR + timedelta(hours=9)  # the next day
    made = [write(0, 2), write(2, 3), write(0, 1, "host-1-b"), write(3, 4, hour=later)]
    folder = made[0].path.parent
    for name in (".writing-x1y2", "notes.txt", "host-1-a.5-6.parquet", ".parquet"):
        (folder / name).write_bytes(b"")
    (tmp_path / "00000001.jsonl").write_text("{}")
    (tmp_path / "date=yesterday").mkdir()
    assert complete_files(tmp_path) == made
    assert complete_files(tmp_path, since=HOUR + timedelta(minutes=59)) == made
    assert complete_files(tmp_path, since=HOUR + timedelta(hours=1)) == made[3:]
    assert complete_files(tmp_path, until=later - timedelta(seconds=1)) == made[:3]


def test_nothing_there_is_no_file(tmp_path):
    assert complete_files(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("ranges", "kept"),
    [
        ([(0, 2), (2, 5)], [(0, 2), (2, 5)]),
        ([(0, 2), (2, 5), (0, 5)], [(0, 5)]),
        ([(0, 2), (0, 5), (2, 5), (5, 6)], [(0, 5), (5, 6)]),
        ([(3, 4), (0, 9), (9, 10), (0, 10)], [(0, 10)]),
    ],
)
def test_a_file_does_not_count_if_another_one_has_its_rows(tmp_path, ranges, kept):
    files = [LogFile(HOUR, "a", first, end, tmp_path) for first, end in ranges]
    other = LogFile(HOUR, "b", 0, 1, tmp_path)
    found = without_contained([other, *files])
    assert [(file.first, file.end) for file in found if file.server == "a"] == kept
    assert other in found


def test_a_server_has_a_name_that_no_other_process_has_had():
    one, other = server_name(), server_name()
    assert one != other
    assert f"-{os.getpid()}-" in one
    assert "." not in one
