"""Logged inputs become JSON, and come back as the log had them."""

import json
import math
from typing import Any

import pytest

from contract.prediction_log.json_values import as_json, from_json


@pytest.mark.parametrize(
    "value", [7, -(2**63), 0.1, None, [[0.5, 1.0], [2.0, -3.25]], [], b"\xff\0", [b"\x89PNG", None]]
)
def test_inputs_come_back_as_they_were(value: Any) -> None:
    assert from_json(json.loads(json.dumps(as_json(value)))) == value


def test_text_comes_back_as_text_and_what_is_no_number_as_nothing() -> None:
    assert from_json(as_json([b"caf\xc3\xa9", b"smith"])) == ["café", "smith"]
    assert from_json(as_json([1.0, math.nan, math.inf])) == [1.0, None, None]
