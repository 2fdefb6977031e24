"""Reading files to score: columns with and without header and labels, numbers of rows, keys."""

from pathlib import Path
from typing import Any

import pytest

from components.models.scoring_formats import ExampleRows, extension, read_rows
from contract.errors import DataError, UserError
from contract.schema.pipeline import PipelineConfig


def config(columns: tuple[str, ...] | None = None) -> PipelineConfig:
    source: dict[str, Any] = {"kind": "csv", "files": ("train.csv",), "columns": columns}
    return PipelineConfig.model_validate(
        {
            "name": "tiny",
            "features": {"size": {"dtype": "float32"}, "word": {"dtype": "string", "default": "?"}},
            "heads": {"kind": {"task": "binary_classification", "classes": ("a", "b")}},
            "ingest": {"source": source},
        }
    )


def rows_of(path: Path, settings: PipelineConfig) -> ExampleRows:
    (batch,) = read_rows(path, settings)
    return batch


HEADERLESS = config(("size", "word", "kind"))


@pytest.mark.parametrize(
    ("settings", "content"),
    [
        (config(), "word,size\nred,1.5\nblue,2\n"),
        (config(), "kind,word,size\na,red,1.5\n?,blue,2\n"),
        (HEADERLESS, "1.5,red,a\n2,blue,b\n"),
        (HEADERLESS, "1.5,red\n2,blue\n"),
        (HEADERLESS, "word,size\nred,1.5\nblue,2\n"),
    ],
    ids=["header", "header and labels", "as trained", "no labels", "a header all the same"],
)
def test_columns_are_found_with_and_without_header_and_labels(
    settings: PipelineConfig, content: str, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text(content)
    batch = rows_of(tmp_path / "in.csv", settings)
    assert (batch.rows, batch.bad) == ((1, 2), ())
    first, second = batch.examples
    assert b"red" in first
    assert b"blue" in second


def test_bad_rows_have_their_number_their_line_and_the_reason(tmp_path: Path) -> None:
    text = 'size,word\n1,"red\nwine"\nmany,blue\n\n,green\n4,\n5\n'
    (tmp_path / "in.csv").write_text(text)
    batch = rows_of(tmp_path / "in.csv", config())
    assert batch.rows == (1, 4)  # the last of them has a default for its word
    assert sorted(bad.row for bad in batch.bad) == [2, 3, 5]
    assert batch.lines == {1: 2, 2: 4, 3: 6, 4: 7, 5: 8}
    reasons = {bad.row: bad.reason for bad in batch.bad}
    assert "not a float32" in reasons[2]
    assert "missing" in reasons[3]
    assert "1 cells, expected 2" in reasons[5]


def test_numbers_continue_in_the_next_batch_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("size,word\n" + "1,red\nmany,blue\n" * 10_000)
    batches = list(read_rows(tmp_path / "in.csv", config()))
    assert len(batches) > 1
    assert [row for batch in batches for row in batch.rows] == list(range(1, 20_001, 2))
    assert [bad.row for batch in batches for bad in batch.bad] == list(range(2, 20_001, 2))


def test_keys_stay_with_the_usable_rows(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,size,word\n007,1,red\nb,many,blue\n,3,green\n")
    (batch,) = read_rows(tmp_path / "in.csv", config(), ("id", "word"))
    assert (batch.rows, batch.keys["id"].to_pylist()) == ((1, 3), ["007", None])
    assert batch.keys["word"].to_pylist() == ["red", "green"]


def test_a_missing_column_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("sise,word\n1,red\n")
    with pytest.raises(DataError, match=r"missing columns: 'size'; did you mean 'sise'"):
        rows_of(tmp_path / "in.csv", config())


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        rows_of(tmp_path / "in.csv", config())


def test_the_longest_known_ending_counts() -> None:
    known = (".tfrecord", ".tfrecord.gz")
    assert extension(Path("rows.tfrecord.gz"), known) == ".tfrecord.gz"
    with pytest.raises(UserError, match=r"expected a file that ends in one of \.tfrecord"):
        extension(Path("rows.txt"), known)
