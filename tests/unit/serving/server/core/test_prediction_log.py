"""The prediction log: which requests, when files appear and are merged, what is dropped."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import serving.server.core.prediction_log as prediction_log_module
from contract.prediction_log.files import complete_files
from contract.prediction_log.reading import predictions_of, read_tables
from contract.records.package import InputSpec
from contract.records.prediction import Prediction
from contract.schema.data import HeadConfig
from contract.schema.serving import ServeConfig
from serving.server.core.hourly_files import FlushRule
from serving.server.core.prediction_columns import Answer
from serving.server.core.prediction_log import PredictionLog, QueueLimits, is_logged

HEADS = {"digit": HeadConfig(task="multiclass_classification", classes=("a", "b", "c"))}
NOW = datetime(2026, 11, 29, 15, 30, tzinfo=UTC)


def answer(request_id: bytes, moment: datetime = NOW, rows: int = 1, **more: Any) -> Answer:
    found = {"scores": np.array([[0.25, 0.5, 0.25]] * rows, np.float32)}
    one = Answer(request_id, b"", "serving_default", moment.timestamp(), 0.01, found)
    return one._replace(**more)


def records(folder: Path) -> list[Prediction]:
    return [one for table in read_tables(folder) for one in predictions_of(table)]


def ids(folder: Path) -> list[str]:
    return [record.request_id for record in records(folder)]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_closing_writes_what_waits(tmp_path, manifest):
    log = PredictionLog(tmp_path, manifest(heads=HEADS), print)
    log.add(answer(b"one", rows=2))
    log.add(answer(b"two", found=400))
    log.close()
    found = [(one.request_id, one.row, one.status, one.version) for one in records(tmp_path)]
    assert found == [("one", 0, 200, 7), ("one", 1, 200, 7), ("two", 0, 400, 7)]


def test_rows_are_in_a_file_when_they_have_waited_for_as_long_as_the_rule_says(tmp_path, manifest):
    log = PredictionLog(tmp_path, manifest(heads=HEADS), print, FlushRule(seconds=0.05))
    log.add(answer(b"one"))
    wait_for(lambda: ids(tmp_path) == ["one"])
    log.add(answer(b"two"))
    wait_for(lambda: ids(tmp_path) == ["one", "two"])
    log.close()
    (file,) = complete_files(tmp_path)  # they were merged
    assert (file.first, file.end) == (0, 2)


def test_rows_that_are_too_much_for_memory_are_written_before_their_time(tmp_path, manifest):
    rule = FlushRule(seconds=3600.0, size_bytes=1)
    log = PredictionLog(tmp_path, manifest(heads=HEADS), print, rule)
    log.add(answer(b"one"))
    wait_for(lambda: ids(tmp_path) == ["one"])
    log.close()


def test_small_files_of_an_hour_are_merged_when_they_are_many(tmp_path, manifest):
    rule = FlushRule(seconds=0.0, merged_files=3)
    log = PredictionLog(tmp_path, manifest(heads=HEADS), print, rule)
    for number, files in enumerate((1, 2, 1, 2, 3)):
        log.add(answer(b"%d" % number))
        wait_for(lambda: len(ids(tmp_path)) == number + 1)  # noqa: B023 (called at once)
        wait_for(lambda: len(complete_files(tmp_path)) == files)  # noqa: B023
    log.close()
    assert len(complete_files(tmp_path)) == 1
    assert ids(tmp_path) == ["0", "1", "2", "3", "4"]


def test_each_hour_has_its_own_files(tmp_path, manifest):
    log = PredictionLog(tmp_path, manifest(heads=HEADS), print)
    late = NOW.replace(minute=59, second=59, microsecond=999_999)
    for name, moment in ((b"a", NOW), (b"b", late), (b"c", late + timedelta(microseconds=1))):
        log.add(answer(name, moment, rows=2))
    log.close()
    found = [(file.hour.hour, file.first, file.end) for file in complete_files(tmp_path)]
    assert found == [(15, 0, 4), (16, 4, 6)]


def test_a_server_without_requests_makes_no_files(tmp_path, manifest):
    for _ in range(10):
        PredictionLog(tmp_path, manifest(heads=HEADS), print, FlushRule(seconds=0.0)).close()
    assert [*tmp_path.iterdir()] == []


def test_ten_processes_keep_all_files_of_those_before_them(tmp_path, manifest):
    for number in range(10):
        log = PredictionLog(tmp_path, manifest(heads=HEADS), print)
        log.add(answer(b"%d" % number))
        log.close()
    assert sorted(ids(tmp_path)) == [str(number) for number in range(10)]


def test_a_server_removes_what_is_too_old_when_it_starts(tmp_path, manifest):
    made = manifest(heads=HEADS, serve=ServeConfig(prediction_log_days=1))
    for days in (3, 0):
        log = PredictionLog(tmp_path, made, print)
        log.add(answer(b"%d" % days, datetime.now(UTC) - timedelta(days=days)))
        log.close()
    assert ids(tmp_path) == ["0"]


@pytest.mark.parametrize(
    "limits", [QueueLimits(requests=2), QueueLimits(size_bytes=30)], ids=["requests", "bytes"]
)
def test_what_does_not_fit_into_the_queue_is_dropped_and_counted(
    tmp_path, manifest, monkeypatch, limits
):
    monkeypatch.setattr(prediction_log_module, "_GATHER_SECONDS", 0.5)
    dropped: list[int] = []
    log = PredictionLog(tmp_path, manifest(heads=HEADS), dropped.append, limits=limits)
    for number in range(5):
        log.add(answer(b"%d" % number))  # 12 bytes of scores
    log.close()
    assert sum(dropped) == 3
    assert ids(tmp_path) == ["0", "1"]


def test_the_queue_has_room_again_when_it_was_gathered(tmp_path, manifest):
    dropped: list[int] = []
    limits = QueueLimits(requests=1, size_bytes=12)
    rule = FlushRule(seconds=0.0)
    log = PredictionLog(tmp_path, manifest(heads=HEADS), dropped.append, rule, limits)
    for number in range(3):
        log.add(answer(b"%d" % number))
        wait_for(lambda: len(ids(tmp_path)) == number + 1)  # noqa: B023 (called at once)
    log.close()
    assert sum(dropped) == 0


def test_a_disk_that_refuses_is_counted_said_and_not_fatal(tmp_path, manifest, caplog):
    dropped: list[int] = []
    log = PredictionLog(tmp_path / "log", manifest(heads=HEADS), dropped.append)
    (tmp_path / "log").rmdir()
    (tmp_path / "log").write_text("a file where the folder was")
    log.add(answer(b"lost", rows=3))
    log.add(answer(b"lost too"))
    log.close()
    assert sum(dropped) == 2
    assert "2 requests are not logged" in caplog.text


def test_outputs_that_are_not_as_the_manifest_says_do_not_end_the_log(tmp_path, manifest):
    dropped: list[int] = []
    log = PredictionLog(tmp_path, manifest(heads=HEADS), dropped.append, FlushRule(seconds=0.0))
    log.add(answer(b"odd", found={"scores": np.array(["text"], object)}))
    wait_for(lambda: sum(dropped) == 1)
    log.add(answer(b"good"))
    log.close()
    assert ids(tmp_path) == ["good"]


def test_adding_does_not_wait_for_the_disk(tmp_path, manifest, monkeypatch):
    is_writing, may_end = threading.Event(), threading.Event()

    def slow_disk(*_):
        is_writing.set()
        may_end.wait(60)

    monkeypatch.setattr("os.fsync", slow_disk)
    log = PredictionLog(tmp_path, manifest(heads=HEADS), print, FlushRule(seconds=0.0))
    log.add(answer(b"first"))
    assert is_writing.wait(60)
    for number in range(1000):
        log.add(answer(b"%d" % number))
    assert not may_end.is_set()
    assert ids(tmp_path) == []  # the disk still has the first one
    may_end.set()
    log.close()
    assert len(ids(tmp_path)) == 1001


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_the_logged_share_is_chosen_by_the_request_id_alone(ratio):
    ids = [b"request-%d" % number for number in range(5000)]
    chosen = [is_logged(request_id, ratio) for request_id in ids]
    assert chosen == [is_logged(request_id, ratio) for request_id in ids]
    # Three standard deviations of a binomial share.
    assert abs(np.mean(chosen) - ratio) <= 3 * (ratio * (1 - ratio) / len(ids)) ** 0.5


def test_two_servers_sample_the_inputs_of_the_same_requests(tmp_path, manifest):
    serve = ServeConfig(prediction_log_inputs_ratio=0.3)
    made = manifest(heads=HEADS, inputs={"x": InputSpec(dtype="float32")}, serve=serve)
    sampled = []
    for name in ("one", "other"):
        log = PredictionLog(tmp_path / name, made, print)
        for number in range(200):
            request_id = b"%d" % number
            inputs = {"x": np.array([number], np.float32)} if log.samples(request_id) else None
            log.add(answer(request_id, inputs=inputs))
        log.close()
        found = {one.request_id: one.inputs for one in records(tmp_path / name)}
        assert len(found) == 200
        sampled.append({i: inputs["x"] for i, inputs in found.items() if inputs is not None})
    assert sampled[0] == sampled[1]
    assert all(x == float(request_id) for request_id, x in sampled[0].items())
    assert abs(len(sampled[0]) - 60) <= 3 * (200 * 0.3 * 0.7) ** 0.5
