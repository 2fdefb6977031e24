"""The requests that a version brings are replayed before it answers."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.errors import DataError
from contract.wire.tensorflow_serving import PredictionLog
from contract.wire.tensors import write_tensor
from serving.standalone.warm_up import REQUESTS, warm_up

from .conftest import BROKEN, Halving, version


def write(folder: Path, records: Sequence[bytes]) -> None:
    """Write TFRecords; of the checksums nothing is known here."""
    file = folder / REQUESTS
    file.parent.mkdir()
    framed = [struct.pack("<QI", len(one), 0) + one + struct.pack("<I", 0) for one in records]
    file.write_bytes(b"".join(framed))


def predicted(*values: float, signature: str = "") -> Any:
    record = PredictionLog()
    request = record.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = "any", signature
    write_tensor(request.inputs["x"], np.array(values, np.float32))
    return record


def with_examples(kind: str, count: int) -> Any:
    record = PredictionLog()
    request = getattr(record, f"{kind}_log").request
    if kind == "multi_inference":
        for one in ("classify", "regress"):
            task = request.tasks.add(method_name=f"tensorflow/serving/{one}")
            task.model_spec.signature_name = one
    else:
        request.model_spec.signature_name = kind
    for _ in range(count):
        request.input.example_list.examples.add()
    return record


@pytest.fixture
def model(tmp_path: Path) -> Halving:
    return Halving(version(tmp_path, 1))


def warmed(model: Halving, folder: Path, records: Sequence[Any], iterations: int = 1) -> list[int]:
    write(folder, [one.SerializeToString() for one in records])
    warm_up(model, folder, iterations)
    return model.calls


def test_each_kind_of_request_is_replayed(model: Halving, tmp_path: Path) -> None:
    records = [
        predicted(1.0, 2.0),
        with_examples("classify", 3),
        with_examples("regress", 4),
        with_examples("multi_inference", 5),
    ]
    assert warmed(model, tmp_path / "1", records) == [2, 3, 4, 5]


def test_requests_are_replayed_as_often_as_asked(model: Halving, tmp_path: Path) -> None:
    assert warmed(model, tmp_path / "1", [predicted(1.0)], iterations=3) == [1, 1, 1]


def test_a_version_may_bring_none(model: Halving, tmp_path: Path) -> None:
    warm_up(model, tmp_path / "1", 1)
    assert model.calls == []


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([predicted(1.0), predicted(BROKEN)], "request 2 fails: minus one is out of range"),
        ([predicted(1.0, signature="no")], 'request 1 fails: Serving signature key "no" not found'),
        ([with_examples("regress", 0)], "request 1 fails: Input is empty."),
        ([PredictionLog()], "record 1 is not a PredictionLog"),
        ([predicted(1.0)] * 1001, "more than 1,000 warm-up requests"),
    ],
)
def test_what_fails_or_is_too_much_fails_the_version(
    model: Halving, tmp_path: Path, records: Sequence[Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        warmed(model, tmp_path / "1", records)


@pytest.mark.parametrize("content", [b"short", struct.pack("<QI", 99, 0) + b"x", b"\xff" * 40])
def test_a_damaged_file_fails_the_version(model: Halving, tmp_path: Path, content: bytes) -> None:
    write(tmp_path / "1", [])
    (tmp_path / "1" / REQUESTS).write_bytes(content)
    with pytest.raises(DataError, match="cut off, or not a TFRecord file"):
        warm_up(model, tmp_path / "1", 1)


def test_a_record_that_is_no_message_fails_the_version(model: Halving, tmp_path: Path) -> None:
    write(tmp_path / "1", [b"\xff\xff"])
    with pytest.raises(DataError, match="record 1 is not a PredictionLog"):
        warm_up(model, tmp_path / "1", 1)
