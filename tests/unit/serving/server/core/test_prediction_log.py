"""The prediction log: what is written, which requests, when files change, what is dropped."""

import json
from pathlib import Path

import numpy as np
import pytest

import serving.server.core.prediction_log as prediction_log_module
from contract.schema.data import HeadConfig
from serving.server.core.prediction_log import PredictionLog, Rotation, is_logged

HEADS = {
    "digit": HeadConfig(task="multiclass_classification", classes=("a", "b", "c")),
    "price": HeadConfig(task="regression"),
}


def entries(folder: Path) -> list[dict]:
    lines = [line for file in sorted(folder.iterdir()) for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def outputs(*rows: tuple[list[float], float]) -> dict[str, np.ndarray]:
    scores = np.array([scores for scores, _ in rows], np.float32)
    return {"digit_scores": scores, "price_value": np.array([v for _, v in rows], np.float32)}


def test_each_request_is_one_line_with_its_own_rows(tmp_path):
    log = PredictionLog(tmp_path, 3, HEADS, print)
    log.add(b"one", outputs(([0.25, 0.5, 0.25], 1.5), ([0.75, 0.125, 0.125], 2.0)))
    log.add(b"two", outputs(([0.0, 0.0, 1.0], -1.0)))
    log.close()
    one, two = entries(tmp_path)
    assert (one["request_id"], one["version"]) == ("one", 3)
    assert one["predictions"] == [{"digit": 1, "price": 1.5}, {"digit": 0, "price": 2.0}]
    assert one["scores"] == [{"digit": 0.5}, {"digit": 0.75}]
    assert two["predictions"] == [{"digit": 2, "price": -1.0}]
    assert one["time"] <= two["time"]


def test_files_rotate_by_size_and_the_oldest_go(tmp_path):
    log = PredictionLog(tmp_path, 3, HEADS, print, Rotation(200, 3))
    for number in range(8):
        log.add(b"%d" % number, outputs(([0.0, 0.0, 1.0], 1.0), ([0.0, 0.0, 1.0], 1.0)))
        log._write_waiting()
    log.close()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert len(names) == 3
    assert names[-1] > "00000004.jsonl"
    assert entries(tmp_path)[-1]["request_id"] == "7"


def test_a_new_process_begins_a_new_file(tmp_path):
    for _ in range(2):
        PredictionLog(tmp_path, 3, HEADS, print).close()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["00000001.jsonl", "00000002.jsonl"]


def test_what_does_not_fit_into_the_queue_is_dropped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log_module, "_MAX_WAITING", 2)
    monkeypatch.setattr(prediction_log_module, "_GATHER_SECONDS", 0.5)
    dropped: list[int] = []
    log = PredictionLog(tmp_path, 3, HEADS, dropped.append)
    for number in range(5):
        log.add(b"%d" % number, outputs(([0.0, 0.0, 1.0], 1.0)))
    log.close()
    assert sum(dropped) == 3
    assert [entry["request_id"] for entry in entries(tmp_path)] == ["0", "1"]


def test_a_disk_that_refuses_is_counted_and_not_fatal(tmp_path):
    dropped: list[int] = []
    log = PredictionLog(tmp_path, 3, HEADS, dropped.append)
    log._file.close()
    log._file = Path("/dev/full").open("wb")  # noqa: SIM115 (the log owns it)
    log.add(b"lost", outputs(([0.0, 0.0, 1.0], 1.0)))
    log.close()
    assert dropped == [1]


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_the_logged_share_is_chosen_by_the_request_id_alone(ratio):
    ids = [b"request-%d" % number for number in range(5000)]
    chosen = [is_logged(request_id, ratio) for request_id in ids]
    assert chosen == [is_logged(request_id, ratio) for request_id in ids]
    # Three standard deviations of a binomial share.
    assert abs(np.mean(chosen) - ratio) <= 3 * (ratio * (1 - ratio) / len(ids)) ** 0.5
