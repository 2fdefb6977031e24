"""Reading files to score: columns with and without header and labels; bad rows keep their line."""

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
    ("settings", "content", "rows"),
    [
        (config(), "word,size\nred,1.5\nblue,2\n", (2, 3)),
        (config(), "kind,word,size\na,red,1.5\n?,blue,2\n", (2, 3)),
        (HEADERLESS, "1.5,red,a\n2,blue,b\n", (1, 2)),
        (HEADERLESS, "1.5,red\n2,blue\n", (1, 2)),
        (HEADERLESS, "word,size\nred,1.5\nblue,2\n", (2, 3)),
    ],
    ids=["header", "header and labels", "as trained", "no labels", "a header all the same"],
)
def test_columns_are_found_with_and_without_header_and_labels(
    settings: PipelineConfig, content: str, rows: tuple[int, ...], tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text(content)
    batch = rows_of(tmp_path / "in.csv", settings)
    assert (batch.rows, batch.bad) == (rows, ())
    first, second = batch.examples
    assert b"red" in first
    assert b"blue" in second


def test_bad_rows_keep_their_line_and_reason(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("size,word\n1,red\nmany,blue\n,green\n4,\n")
    batch = rows_of(tmp_path / "in.csv", config())
    assert batch.rows == (2, 5)  # the last has a default for its word
    assert [bad.row for bad in batch.bad] == [3, 4]
    assert "not a float32" in batch.bad[0].reason
    assert "missing" in batch.bad[1].reason


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
