"""Label deltas: checked row by row, numbered, and each row stored once."""

from pathlib import Path

import pytest

from components.data.labels import AddedLabels, add_delta, list_deltas, newest_deltas
from contract.errors import DataError
from contract.layout import PipelineLayout
from contract.loader import validate
from contract.schema.pipeline import PipelineConfig

HEADER = "age,job,income\n"


@pytest.fixture
def layout(tmp_path: Path) -> PipelineLayout:
    return PipelineLayout(tmp_path / "root", "people")


def make_config(columns: list[str] | None = None, key: str | None = None) -> PipelineConfig:
    raw = {
        "name": "people",
        "features": {
            "age": {"dtype": "int64", "minimum": 0},
            "job": {"dtype": "string", "default": "none"},
        },
        "heads": {"income": {"task": "binary_classification", "classes": ["low", "high"]}},
        "ingest": {
            "source": {
                "kind": "csv",
                "files": ["people.csv"],
                "missing": ["", "?"],
                "columns": columns,
            },
            "split": {"key": key},
        },
    }
    return validate(PipelineConfig, raw, "people")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "new.csv"
    path.write_text(text)
    return path


def test_valid_rows_are_stored_and_bad_ones_reported(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    file = write(tmp_path, HEADER + "1,smith,low\nx,cook,high\n2,?,high\n3,cook,rich\n")
    added = add_delta(layout, make_config(), file)
    assert (added.added, added.corrected, added.duplicates) == (2, 0, 0)
    assert [(bad.row, bad.reason) for bad in added.bad] == [
        (3, "age: not an int64"),
        (5, "label 'income': not one of 'low', 'high'"),
    ]
    assert added.delta is not None
    assert added.delta.read_text() == HEADER + "1,smith,low\n2,,high\n"
    assert added.delta.name.startswith("1-")


def counts(added: AddedLabels) -> tuple[int, int, int]:
    return added.added, added.corrected, added.duplicates


def test_rows_that_say_what_stands_already_are_not_stored_again(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    config = make_config()
    add_delta(layout, config, write(tmp_path, HEADER + "1,smith,low\n"))
    again = add_delta(layout, config, write(tmp_path, HEADER + "1,smith,low\n1, smith ,low\n"))
    assert (again.delta, *counts(again)) == (None, 0, 0, 2)
    more = add_delta(
        layout, config, write(tmp_path, HEADER + "1,smith,low\n9,cook,low\n9,cook,low\n")
    )
    assert counts(more) == (1, 0, 2)
    assert [path.name.partition("-")[0] for path in list_deltas(layout)] == ["1", "2"]


def test_the_newest_label_of_a_row_stands(layout: PipelineLayout, tmp_path: Path) -> None:
    config = make_config()
    add_delta(layout, config, write(tmp_path, HEADER + "1,smith,low\n2,cook,low\n"))
    corrected = add_delta(layout, config, write(tmp_path, HEADER + "1,smith,high\n2,cook,low\n"))
    assert counts(corrected) == (0, 1, 1)
    assert corrected.delta is not None
    assert corrected.delta.read_text() == HEADER + "1,smith,high\n"
    back = add_delta(layout, config, write(tmp_path, HEADER + "1,smith,low\n"))
    assert counts(back) == (0, 1, 0)
    newest = newest_deltas(list_deltas(layout), config)
    assert sorted(name.partition("-")[0] for name in newest.values()) == ["1", "3"]


def test_a_later_line_of_a_file_corrects_an_earlier_one(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    added = add_delta(layout, make_config(), write(tmp_path, HEADER + "1,cook,low\n1,cook,high\n"))
    assert counts(added) == (1, 1, 0)
    assert added.delta is not None
    assert added.delta.read_text() == HEADER + "1,cook,high\n"


def test_rows_that_share_a_key_of_the_split_are_rows_of_their_own(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    config = make_config(key="job")
    added = add_delta(layout, config, write(tmp_path, HEADER + "1,cook,low\n2,cook,low\n"))
    assert counts(added) == (2, 0, 0)


def test_columns_may_stand_in_any_order_and_others_are_left_out(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    file = write(tmp_path, "who,income,job,age\nbob,low,cook,4\n")
    added = add_delta(layout, make_config(), file)
    assert added.delta is not None
    assert added.delta.read_text() == HEADER + "4,cook,low\n"


def test_a_file_without_header_is_read_like_the_source_without_header(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    config = make_config(columns=["age", "job", "income"])
    assert add_delta(layout, config, write(tmp_path, "4,cook,low\n")).added == 1
    assert add_delta(layout, config, write(tmp_path, HEADER + "5,cook,low\n")).added == 1


def test_a_file_without_valid_rows_is_refused_and_nothing_is_stored(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no valid row:\n  line 2: age: not an int64 'x'"):
        add_delta(layout, make_config(), write(tmp_path, HEADER + "x,cook,low\n"))
    assert list_deltas(layout) == []


def test_a_file_that_lacks_the_label_is_refused(layout: PipelineLayout, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing columns: 'income'"):
        add_delta(layout, make_config(), write(tmp_path, "age,job\n1,cook\n"))


def test_deltas_are_listed_by_number_and_strangers_ignored(layout: PipelineLayout) -> None:
    layout.label_deltas.mkdir(parents=True)
    for name in ("10-aaaaaaaaaaaa.csv", "9-bbbbbbbbbbbb.csv", "notes.csv", ".9-tmp.csv"):
        (layout.label_deltas / name).touch()
    assert [path.name for path in list_deltas(layout)] == [
        "9-bbbbbbbbbbbb.csv",
        "10-aaaaaaaaaaaa.csv",
    ]
