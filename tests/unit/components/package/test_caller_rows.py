"""Rows that callers may send, made from a model's inputs."""

from typing import Any

import pytest

from components.package.caller_rows import CallerRow, caller_rows
from contract.records.package import InputSpec
from contract.schema.data import FeatureConfig

REAL = {"town": "b", "id": 3, "x": 1.5, "words": ["u", "v"], "image": [[1.0, 2.0]]}
OTHER = {"town": "c", "id": 7, "x": 0.5, "words": [], "image": [[0.0, 4.0]]}
INPUTS = {
    "town": InputSpec(dtype="string", default="a"),
    "id": InputSpec(dtype="int64"),
    "x": InputSpec(dtype="float32", default=1.0),
    "words": InputSpec(dtype="string", is_variable_length=True),
    "image": InputSpec(dtype="float32", shape=(1, 2)),
}
FEATURES = {"x": FeatureConfig(dtype="float32", minimum=-2.0, maximum=2.0)}


def made() -> dict[tuple[str, str], CallerRow]:
    return {(row.feature, row.what): row for row in caller_rows(INPUTS, FEATURES, [REAL, OTHER])}


@pytest.mark.parametrize(
    ("feature", "what", "value", "is_beyond"),
    [
        ("town", "a category never seen", "never seen \u2205", False),
        ("town", "the empty text", "", False),
        ("id", "0", 0, True),
        ("id", "a negative number", -1, True),
        ("id", "the largest int64", 9223372036854775807, True),
        ("id", "the least int64", -9223372036854775808, True),
        ("x", "1e32", 1e32, True),
        ("x", "the largest float32", 3.4028234663852886e38, True),
        ("x", "its minimum", -2.0, True),
        ("words", "an empty list", [], False),
        ("words", "a list of a category never seen", ["never seen \u2205"], False),
        ("words", "a list of 1,000 items", ["u"] * 1000, False),
        ("image", "0 everywhere", [[0.0, 0.0]], False),
        ("image", "-1e32 everywhere", [[-1e32, -1e32]], True),
    ],
)
def test_one_value_of_a_real_row_is_changed(
    feature: str, what: str, value: Any, is_beyond: bool
) -> None:
    row = made()[feature, what]
    assert row.row == {**REAL, feature: value}
    assert row.is_beyond == is_beyond


def test_what_may_be_left_out_is_left_out() -> None:
    rows = made()
    left_out = {feature for feature, what in rows if what == "left out"}
    assert left_out == {"town", "x", "words"}
    assert rows["town", "left out"].row == {n: v for n, v in REAL.items() if n != "town"}
    no_defaults = {n: v for n, v in REAL.items() if n not in ("town", "x")}
    assert rows["", "all defaults"].row == no_defaults


def test_a_very_long_text_is_one_that_batches_do_without() -> None:
    row = made()["town", "a very long text"]
    assert len(row.row["town"]) == 100_000
    assert row.is_long
    assert not made()["town", "the empty text"].is_long


def test_padding_is_not_sent_as_an_item() -> None:
    """Empty text and the least int64 fill up shorter lists."""
    inputs = {"ids": InputSpec(dtype="int64", is_variable_length=True)}
    ids = [row.row.get("ids") for row in caller_rows(inputs, {}, [{"ids": [4]}])]
    assert [-(2**63)] not in ids
    assert [2**63 - 1] in ids
    assert [""] not in [row.row.get("words") for row in made().values()]


def test_of_a_model_with_many_inputs_the_likeliest_values_of_each_are_sent() -> None:
    inputs = {f"f{number}": InputSpec(dtype="float32", default=0.0) for number in range(300)}
    rows = caller_rows(inputs, {}, [dict.fromkeys(inputs, 1.0)])
    assert len(rows) == 512
    left_out = {row.feature for row in rows if row.what == "left out"}
    assert left_out == inputs.keys()


def test_without_a_real_row_there_is_nothing_to_change() -> None:
    assert caller_rows(INPUTS, FEATURES, []) == []
