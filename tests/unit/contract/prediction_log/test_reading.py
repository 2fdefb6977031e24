from datetime import UTC, datetime, timedelta

import pytest

from contract.errors import DataError
from contract.prediction_log.reading import predictions_of, read_tables
from contract.prediction_log.writing import merge
from contract.records.prediction import Prediction

HOUR = datetime(2026, 11, 29, 15, tzinfo=UTC)


def ids(tables):
    return [request_id for table in tables for request_id in table["request_id"].to_pylist()]


def test_rows_are_read_as_records(tmp_path, write):
    write(4, 5)
    (table,) = read_tables(tmp_path)
    assert [*predictions_of(table)] == [
        Prediction(
            time=HOUR,
            request_id="host-1-a:4",
            row=0,
            version=3,
            arm="stable",
            signature="serving_default",
            status=200,
            latency_seconds=0.25,
            predicted={"price": 4.0},
        )
    ]


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (["row", "request_id", "not there"], ["request_id", "row"]),
        (["time", "predicted:"], ["time", "predicted:price"]),
        (["predicted:price"], ["predicted:price"]),
        (["predicted"], []),
    ],
)
def test_only_the_columns_asked_for_are_read(tmp_path, write, columns, names):
    write(0, 1)
    (table,) = read_tables(tmp_path, columns=columns)
    assert table.column_names == names


def test_only_the_hours_asked_for_are_read(tmp_path, write):
    for later in range(4):
        write(later, later + 1, hour=HOUR + timedelta(hours=later))
    since, until = HOUR + timedelta(hours=1, minutes=5), HOUR + timedelta(hours=2, minutes=5)
    assert ids(read_tables(tmp_path, since, until)) == ["host-1-a:1", "host-1-a:2"]


def test_files_that_are_merged_while_a_reader_reads_are_read_once(tmp_path, write):
    files = [write(0, 2), write(2, 3), write(3, 5)]
    tables = read_tables(tmp_path)
    found = ids([next(tables)])
    merge(files)
    assert found + ids(tables) == [f"host-1-a:{number}" for number in range(5)]


def test_files_that_are_removed_while_a_reader_reads_are_passed_over(tmp_path, write):
    files = [write(0, 2), write(2, 3), write(3, 5)]
    tables = read_tables(tmp_path)
    found = ids([next(tables)])
    files[1].path.unlink()
    assert found + ids(tables) == [f"host-1-a:{number}" for number in (0, 1, 3, 4)]


def test_a_broken_file_is_named(tmp_path, write):
    write(0, 2).path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"host-1-a\..*parquet: not a readable Parquet file"):
        [*read_tables(tmp_path)]


def test_no_log_has_no_rows(tmp_path):
    assert [*read_tables(tmp_path / "none")] == []
