"""Columns that answers repeat from the input: their types, and the names that are refused."""

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.tf_example import example_class
from components.models.score_keys import check_names, key_types, keys_of_batch, keys_of_examples
from contract.errors import DataError, UserError

IN = Path("in.parquet")
COLUMNS = {
    "number": pa.array([1, None], pa.int32()),
    "text": pa.array(["a", "b"]),
    "code": pa.array([7, 8]).dictionary_encode(),
    "colour": pa.array(["red", "blue"]).dictionary_encode(),
    "day": pa.array([datetime.date(2026, 11, 29), None]),
    "huge": pa.array([2**63, 1], pa.uint64()),
    "lists": pa.array([[1], [2]]),
}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("number", [1, None]),
        ("text", ["a", "b"]),
        ("code", [7, 8]),
        ("colour", ["red", "blue"]),
        ("day", ["2026-11-29", None]),
        ("huge", ["9223372036854775808", "1"]),
    ],
)
def test_integers_stay_integers_and_the_rest_is_text(
    name: str, values: list[Any], tmp_path: Path
) -> None:
    pq.write_table(pa.table(COLUMNS), tmp_path / IN)
    found = keys_of_batch(IN, pa.RecordBatch.from_pydict(COLUMNS), (name,))
    assert found[name].to_pylist() == values
    assert key_types(tmp_path / IN, (name,)) == {name: found[name].type}


def test_keys_of_other_files_are_text() -> None:
    assert key_types(Path("in.csv"), ("number",)) == {"number": pa.string()}


def test_a_key_of_lists_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table(COLUMNS), tmp_path / IN)
    with pytest.raises(DataError, match=r"key 'lists' is list<.*>; expected one value per row"):
        key_types(tmp_path / IN, ("lists",))


def test_an_unknown_key_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match="key 'texts': no such column; did you mean 'text'"):
        keys_of_batch(IN, pa.RecordBatch.from_pydict(COLUMNS), ("texts",))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("id", "id"), "--key id: given more than once"),
        (("id", "row"), "--key row: the answers have a column of this name"),
        (("kind:a",), "--key kind:a: the answers have a column of this name"),
    ],
)
def test_names_that_answers_have_already_are_refused(keys: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_names(keys, ("row", "kind", "kind:a", "kind:b"))


def example(**features: list[Any]) -> bytes:
    made: Any = example_class()()
    for name, values in features.items():
        kind = "bytes_list" if isinstance(values[0], bytes) else "int64_list"
        getattr(made.features.feature[name], kind).value.extend(values)
    return bytes(made.SerializeToString())


def test_features_of_examples_are_keys_as_text() -> None:
    examples = [example(id=[7], word=[b"red"]), example(word=["bl\u00e4u".encode()])]
    found = keys_of_examples(IN, examples, ("id", "word"))
    assert {name: column.to_pylist() for name, column in found.items()} == {
        "id": ["7", None],
        "word": ["red", "bl\u00e4u"],
    }


def test_several_values_in_an_example_are_no_key() -> None:
    with pytest.raises(DataError, match="key 'id' has 2 values in a row; expected one"):
        keys_of_examples(IN, [example(id=[7, 8])], ("id",))


def test_a_key_that_no_example_has_is_refused() -> None:
    with pytest.raises(DataError, match="key 'parcle': no such column; did you mean 'parcel'"):
        keys_of_examples(IN, [example(parcel=[7])], ("parcle",))
