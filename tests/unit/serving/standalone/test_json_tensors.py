"""JSON of TensorFlow Serving that is refused, and how it is shown."""

import json
import time
from typing import Any

import numpy as np
import pytest

from contract.wire.tensors import DATA_TYPES
from serving.server.grpc.statuses import CallError
from serving.standalone.json_tensors import dense, is_by_row, read_object


def shown(body: dict[str, Any]) -> str:
    """Return what a message says of a body that has neither rows nor columns as it should."""
    with pytest.raises(CallError, match=r"JSON Value: .* Expecting 'instances' to be") as refusal:
        is_by_row(body)
    return str(refusal.value).removeprefix("JSON Value: ").partition(" Expecting")[0]


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -2.5, None, True, "text"], "b": {}, "c": []},
        {"é\n": {"x": [[1], [2, float("nan")]]}},
        {str(n): "x" * n for n in range(60)},
        {"a": "x" * 1000},
        {"x" * 1000: 1},
        {"a": [[n] * 3 for n in range(100)]},
        "😀" * 300,
    ],
)
def test_a_value_is_shown_as_its_json_begins(value: Any) -> None:
    body = {"instances": value}
    assert shown(body) == json.dumps(body)[:256]


def test_showing_costs_nothing_of_what_is_not_shown() -> None:
    body = {"instances": "x" * 10, "more": ["x" * 100] * 1_000_000}
    started = time.process_time()
    for _ in range(100):
        shown(body)
    assert time.process_time() - started < 5  # to write all of it takes more than 30 seconds
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert shown({"instances": {"a": deep}}) == '{"instances": {"a": ' + 236 * "["


def test_a_tensor_has_as_many_dimensions_as_an_array_may_have() -> None:
    value: Any = 3.0
    for _ in range(64):
        value = [value]
    assert dense(value, DATA_TYPES["float32"]).shape == (1,) * 64
    with pytest.raises(CallError, match=r"JSON Value: \[{65}3\.0\]{65} has more than 64 dim"):
        dense([value], DATA_TYPES["float32"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_half_of_a_surrogate_pair_is_no_text(encoding: str) -> None:
    with pytest.raises(CallError, match="JSON Parse error"):
        read_object('{"a": "\\ud800"}'.encode(encoding))


def test_text_beside_numbers_that_json_has_not_is_read() -> None:
    found = read_object('{"a": NaN, "b": "\\ud83d\\ude00é"}'.encode())
    assert np.isnan(found["a"])
    assert found["b"] == "😀é"
