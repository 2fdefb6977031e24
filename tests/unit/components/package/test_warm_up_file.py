"""Rows become the requests with which TensorFlow Serving warms up; it reads the same file."""

from pathlib import Path
from typing import Any

import pytest

from components.data.tfrecord_shards import framed
from components.package.imported_rows import Rows
from components.package.warm_up_file import REQUESTS, write_warm_up
from contract.records.package import SignatureSpec, TensorSpec
from contract.wire.tensorflow_serving import PredictionLog
from contract.wire.tensors import array_of

MOST_BYTES = 1 << 20


def spec(**inputs: str) -> SignatureSpec:
    given = {name: TensorSpec(dtype=kind, shape=None) for name, kind in inputs.items()}
    return SignatureSpec(method="predict", inputs=given, outputs={})


def written(folder: Path, row: Any, signature: SignatureSpec) -> dict[str, Any]:
    assert write_warm_up(folder, "half", Rows("s", "predict", [row]), signature)
    content = (folder / REQUESTS).read_bytes()
    record = content[12:-4]  # behind length and checksum, before the checksum
    assert content == b"".join(framed([record]))
    request = PredictionLog.FromString(record).predict_log.request
    assert (request.model_spec.name, request.model_spec.signature_name) == ("half", "s")
    return {name: array_of(one, MOST_BYTES).tolist() for name, one in request.inputs.items()}


@pytest.mark.parametrize(
    ("row", "inputs", "expected"),
    [
        (2.5, {"x": "float32"}, {"x": [2.5]}),
        ([1.0, 2.0], {"x": "bfloat16"}, {"x": [[1.0, 2.0]]}),
        ({"b64": "/w=="}, {"x": "string"}, {"x": [b"\xff"]}),
        ({"b64": 3}, {"b64": "int8"}, {"b64": [3]}),
        (2**64 - 1, {"x": "uint64"}, {"x": [2**64 - 1]}),
        (
            {"words": [["é", {"b64": "YQ=="}]], "on": True},
            {"words": "string", "on": "bool"},
            {"words": [[["é".encode(), b"a"]]], "on": [True]},
        ),
    ],
)
def test_a_row_is_a_request_of_one_row(
    tmp_path: Path, row: Any, inputs: dict[str, str], expected: dict[str, Any]
) -> None:
    assert written(tmp_path, row, spec(**inputs)) == expected


def test_a_copy_that_is_not_writable_gets_the_file(tmp_path: Path) -> None:
    (model := tmp_path / "model").mkdir(mode=0o500)
    assert written(model, 1.0, spec(x="float32")) == {"x": [1.0]}


def test_a_model_keeps_requests_of_its_own(tmp_path: Path) -> None:
    (file := tmp_path / REQUESTS).parent.mkdir()
    file.write_bytes(b"own")
    assert not write_warm_up(tmp_path, "m", Rows("s", "predict", [1.0]), spec(x="float32"))
    assert file.read_bytes() == b"own"


def test_rows_for_classify_are_not_written(tmp_path: Path) -> None:
    assert not write_warm_up(tmp_path, "m", Rows("s", "classify", [{"a": 1}]), spec(x="string"))


def test_no_more_are_written_than_tensorflow_serving_reads(tmp_path: Path) -> None:
    write_warm_up(tmp_path, "m", Rows("s", "predict", [1.0] * 1001), spec(x="float32"))
    once = tmp_path / "once"
    once.mkdir()
    write_warm_up(once, "m", Rows("s", "predict", [1.0]), spec(x="float32"))
    one = (once / REQUESTS).read_bytes()
    assert (tmp_path / REQUESTS).read_bytes() == 1000 * one
