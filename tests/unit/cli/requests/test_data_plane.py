"""Predictions as a person reads them, and rows as a person writes them."""

from pathlib import Path

import pytest

from cli.requests.data_plane import named
from cli.requests.rows import rows_from_file, rows_of_last_run
from contract.errors import DataError, NotFoundError
from contract.layout import PipelineLayout
from contract.schema.data import HeadConfig

KIND = HeadConfig(task="multiclass_classification", classes=("cat", "dog", "cow"))
PRICE = HeadConfig(task="regression")


def test_the_only_head_comes_without_a_name() -> None:
    assert named([0.1, 0.7, 0.2], {"kind": KIND}) == {
        "kind": {"class": "dog", "scores": {"cat": 0.1, "dog": 0.7, "cow": 0.2}}
    }
    assert named(3.5, {"price": PRICE}) == {"price": {"value": 3.5}}


def test_several_heads_come_by_name() -> None:
    answer = {"kind_scores": [0.5, 0.2, 0.3], "price_value": 2.0}
    found = named(answer, {"kind": KIND, "price": PRICE})
    assert found["kind"]["class"] == "cat"
    assert found["price"] == {"value": 2.0}


@pytest.mark.parametrize("text", ['[{"x": 1}]', '{"instances": [{"x": 1}]}', '{"x": 1}'])
def test_rows_may_be_a_list_a_request_or_one_row(text: str, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(text)
    assert rows_from_file(tmp_path / "rows.json") == [{"x": 1}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x: 1", "not JSON"),
        ('[{"x": NaN}]', "found NaN; numbers are finite"),
        ('[{"x": 1e999}]', "not JSON: Out of range float"),
        ('["a\\ud800"]', "surrogates not allowed"),
        ('[{"x": 1, "x": 2}]', "not JSON: the key 'x' is there twice in one object"),
        ("[]", "no rows; expected at least one"),
    ],
)
def test_rows_that_are_none_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DataError, match=message):
        rows_from_file(tmp_path / "rows.json")


def test_a_missing_file_of_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        rows_from_file(tmp_path / "rows.json")


def test_without_a_run_there_are_no_rows(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="give a file of rows with --file"):
        rows_of_last_run(PipelineLayout(tmp_path, "digits"))


@pytest.mark.parametrize("prediction", [3.0, {"sum": 1.5, "greeting": "hi"}, [0.1, 0.9]])
def test_predictions_of_an_imported_model_stay_as_they_are(prediction: object) -> None:
    assert named(prediction, {}) == prediction
