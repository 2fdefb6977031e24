import os

import pyarrow.parquet as pq
import pytest

from contract.errors import DiskFullError
from contract.prediction_log import writing
from contract.prediction_log.files import complete_files
from contract.prediction_log.reading import read_tables


def ids(folder):
    return [i for table in read_tables(folder) for i in table["request_id"].to_pylist()]


def test_merged_files_have_the_same_rows_and_the_small_ones_go(tmp_path, write):
    (merged,) = writing.merge([write(0, 2), write(2, 3), write(3, 7)])
    assert (merged.first, merged.end) == (0, 7)
    assert [path.name for path in merged.path.parent.iterdir()] == [merged.path.name]
    assert ids(tmp_path) == [f"host-1-a:{number}" for number in range(7)]
    assert pq.ParquetFile(merged.path).num_row_groups == 1


def test_files_with_a_gap_between_them_or_of_two_hours_are_not_merged(tmp_path, write):
    files = [write(0, 2), write(4, 5), write(5, 6)]
    assert [(file.first, file.end) for file in writing.merge(files)] == [(0, 2), (4, 6)]


def test_a_merged_file_is_not_larger_than_the_limit(tmp_path, write, monkeypatch):
    files = [write(number, number + 1) for number in range(5)]
    size = files[0].path.stat().st_size
    monkeypatch.setattr(writing, "MERGED_BYTES", int(2.5 * size))
    ranges = [(file.first, file.end) for file in writing.merge(files)]
    assert ranges == [(0, 2), (2, 4), (4, 5)]


def test_a_merge_that_was_killed_before_its_end_is_ended_by_the_next(tmp_path, write):
    small = [write(0, 2), write(2, 3)]
    merged = write(0, 3)
    assert complete_files(tmp_path) == [merged]
    assert writing.merge([*small, merged]) == [merged]
    assert [path.name for path in merged.path.parent.iterdir()] == [merged.path.name]


def test_a_file_that_another_process_has_removed_does_not_break_a_merge(tmp_path, write):
    files = [write(0, 2), write(2, 3), write(3, 4)]
    files[0].path.unlink()
    writing.merge(files)
    assert ids(tmp_path) == ["host-1-a:2", "host-1-a:3"]


def test_what_cannot_be_written_leaves_nothing(tmp_path, write, monkeypatch):
    def fails(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(DiskFullError, match=r"host-1-a.*parquet: disk full"):
        write(0, 2)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
