"""A pipeline from a table: what its columns are, and what becomes of them."""

import csv
import json
import runpy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli.checks.preflight import check_sources
from cli.main import app
from cli.scaffold.table_columns import read_table
from cli.scaffold.table_pipeline import data_path, label_of, pipeline_text
from contract.errors import DataError
from contract.loader import load_pipeline
from contract.places import CODE_FOLDER
from contract.schema.data import CsvSource
from contract.schema.pipeline import PipelineConfig

runner = CliRunner()
CUSTOMERS = CODE_FOLDER / "docs" / "data" / "customers.csv"


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pipelines"
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(folder))
    return folder


def table(tmp_path: Path, columns: dict[str, list[Any]], delimiter: str = ",") -> Path:
    path = tmp_path / "table.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def made(path: Path, label: str) -> PipelineConfig:
    result = runner.invoke(app, ["new", "made", "--from", str(path), "--label", label])
    assert result.exit_code == 0, result.output
    return load_pipeline(Path(result.stderr.split()[1].rstrip(":")).resolve())


def refused(path: Path, label: str) -> str:
    result = runner.invoke(app, ["new", "made", "--from", str(path), "--label", label])
    assert result.exit_code == 2
    return " ".join(result.stderr.split())


def typed(path: Path) -> Path:
    """Write rows of several types as the kind of file that the path's name says."""
    rows = [
        {
            "whole": n,
            "holes": None if n % 5 else n,
            "word": "ab"[n % 2],
            "sizes": [n, n],
            "y": n % 3,
        }
        for n in range(40)
    ]
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".feather":
            feather.write_feather(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows.feather"])
def test_a_typed_file_makes_the_pipeline_that_a_csv_file_does(
    name: str, tmp_path: Path, parent: Path
) -> None:
    config = made(typed(tmp_path / name), "y")
    dtypes = {column: feature.dtype for column, feature in config.features.items()}
    assert dtypes == {"whole": "int64", "holes": "int64", "word": "string"}
    assert config.features["holes"].default == 18  # the median of 0, 5, ..., 35
    assert config.heads["y"].classes == ("0", "1", "2")
    assert config.ingest.source.kind == {"feather": "arrow"}.get(name[5:], name[5:])
    assert [one.state for one in check_sources(config)] == ["ok", "ok"]
    text = (parent / "made" / "pipeline.yaml").read_text()
    assert '# left out: "sizes" holds lists, objects or bytes' in text


def test_a_label_of_lists_is_refused(tmp_path: Path, parent: Path) -> None:
    message = refused(typed(tmp_path / "rows.jsonl"), "sizes")
    assert "label 'sizes': holds lists, objects or bytes" in message
    assert "no column 'z'" in refused(tmp_path / "rows.jsonl", "z")


def test_types_defaults_and_classes_follow_the_cells(tmp_path: Path, parent: Path) -> None:
    columns: dict[str, list[Any]] = {
        "whole": [1, 2, 3, 4],
        "holes": [1, "", 3, 8],
        "share": [0.5, "1e-3", "", 2],
        "word": ["a", "b", "a", ""],
        "y": ["no", "yes", "no", "no"],
    }
    config = made(table(tmp_path, columns), "y")
    found = {name: (f.dtype, f.default) for name, f in config.features.items()}
    assert found == {
        "whole": ("int64", None),
        "holes": ("int64", 3),  # the median of 1, 3, 8
        "share": ("float32", 0.5),  # of 0.001, 0.5, 2
        "word": ("string", ""),
    }
    head = config.heads["y"]
    assert (head.task, head.classes) == ("binary_classification", ("no", "yes"))
    assert config.bless.thresholds == {"accuracy": 0.75}  # 3 of 4 are "no"


@pytest.mark.parametrize(
    ("labels", "task", "classes"),
    [
        (["b", "c", "a", "a"], "multiclass_classification", ("a", "b", "c")),
        ([10, 9, 2, 2], "multiclass_classification", ("2", "9", "10")),
        ([1, 0, 0, 1], "binary_classification", ("0", "1")),
        ([True, False, False, True], "binary_classification", ("False", "True")),
        ([0.5, 1.5, 2.5, 3.5], "regression", ()),
    ],
)
def test_the_label_decides_the_task(
    labels: list[Any], task: str, classes: tuple[str, ...], tmp_path: Path, parent: Path
) -> None:
    config = made(table(tmp_path, {"x": [1, 2, 3, 4], "y": labels}), "y")
    assert (config.heads["y"].task, config.heads["y"].classes) == (task, classes)
    assert config.train.hyperparameters["outputs"] == (3 if len(classes) == 3 else 1)


def test_many_whole_numbers_are_values_and_a_regression_knows_their_scale(
    tmp_path: Path, parent: Path
) -> None:
    config = made(table(tmp_path, {"x": [i % 3 for i in range(21)], "y": list(range(21))}), "y")
    assert config.heads["y"].task == "regression"
    assert config.bless.metric == "r2"
    assert config.train.hyperparameters["label_mean"] == 10.0
    assert config.train.hyperparameters["label_deviation"] == pytest.approx((440 / 12) ** 0.5)


def test_columns_without_information_are_left_out_with_the_reason(
    tmp_path: Path, parent: Path
) -> None:
    rows = 30
    columns: dict[str, list[Any]] = {
        "x": [i % 7 for i in range(rows)],
        "customer_id": list(range(rows)),
        "balance": [i * i for i in range(rows)],  # differs in each row, and is no identifier
        "remark": [f"remark {i}" for i in range(rows)],
        "country": ["AT"] * rows,
        "empty": [""] * rows,
        "y": [i % 2 for i in range(rows)],
    }
    config = made(table(tmp_path, columns), "y")
    assert set(config.features) == {"x", "balance"}
    text = (parent / "made" / "pipeline.yaml").read_text()
    assert '# left out: "customer_id" is an identifier: it differs in each row' in text
    assert '# left out: "remark" has 30 different texts in 30 rows: an id or free text' in text
    assert '# left out: "country" has the same value in each row' in text
    assert '# left out: "empty" has no values' in text


def test_words_for_no_value_are_missing_among_numbers_only(tmp_path: Path, parent: Path) -> None:
    columns: dict[str, list[Any]] = {
        "x": [1, "NA", 3, 4],
        "z": ["NA", "EU", "NA", "EU"],
        "y": [0, 1, 0, 1],
    }
    read = read_table(table(tmp_path, columns), "y")
    assert isinstance(read.source, CsvSource)
    assert read.source.missing == ("", "NA")
    assert (read.columns["x"].dtype, read.columns["x"].missing) == ("int64", 1)
    read = read_table(table(tmp_path, {"z": columns["z"], "y": columns["y"]}), "y")
    assert isinstance(read.source, CsvSource)
    assert read.source.missing == ("",)
    assert read.columns["z"].counts == {"NA": 2, "EU": 2}


def test_the_delimiter_is_the_one_that_finds_the_label(tmp_path: Path, parent: Path) -> None:
    path = table(tmp_path, {"x": [1, 2], "y": ["a", "b"]}, delimiter=";")
    source = made(path, "y").ingest.source
    assert isinstance(source, CsvSource)
    assert source.files == (str(path),)
    assert source.delimiter == ";"


def test_odd_names_paths_and_texts_survive_yaml(tmp_path: Path, parent: Path) -> None:
    columns: dict[str, list[Any]] = {
        "no": [1, 2],
        'size in "cm": # wide': [1.5, 2.5],
        "größe": [1, 2],
        "Left us?": ['a "b"', "on"],
    }
    folder = tmp_path / "my [data]"
    folder.mkdir()
    config = made(table(folder, columns), "Left us?")
    assert list(config.features) == ["no", 'size in "cm": # wide', "größe"]
    assert config.heads["left_us"].column == "Left us?"
    assert config.heads["left_us"].classes == ('a "b"', "on")
    assert {finding.state for finding in check_sources(config)} == {"ok"}


def test_what_cannot_be_learned_is_refused_and_leaves_no_folder(
    tmp_path: Path, parent: Path
) -> None:
    said = {
        "labell": "no column 'labell'; did you mean 'label'? (columns: label, holes, one, id)",
        "holes": "label 'holes': 1 of 3 rows have no label; remove those rows",
        "one": "label 'one': all rows have the same value; expected at least two",
    }
    columns: dict[str, list[Any]] = {
        "label": [1, 2, 1],
        "holes": [1, "", 2],
        "one": [1, 1, 1],
        "id": [1, 2, 3],
    }
    for label, words in said.items():
        assert words in refused(table(tmp_path, columns), label)
    names = {"label": [str(i) + "x" for i in range(101)]}
    assert "101 different texts; expected numbers, or at most 100 classes" in refused(
        table(tmp_path, names), "label"
    )
    only = table(tmp_path, {"one": [1, 1], "y": [0, 1]})
    assert "no column to learn from: 'one' has the same value in each row" in refused(only, "y")
    assert "no such file" in refused(tmp_path / "gone.csv", "y")
    assert not (parent / "made").exists()


def test_a_table_elsewhere_is_named_absolutely_and_new_says_what_that_means(
    tmp_path: Path, parent: Path
) -> None:
    path = table(tmp_path, {"x": [1, 2, 3], "y": [0, 1, 0]})
    result = runner.invoke(app, ["new", "made", "--from", str(path), "--label", "y"])
    assert "by this absolute path. If the file moves, as on another machine, change" in " ".join(
        result.stderr.split()
    )
    text = (parent / "made" / "pipeline.yaml").read_text()
    assert "# an absolute path: change it where the file moves" in text
    assert f'files: ["{path}"]' in text


def test_a_table_of_the_same_workspace_is_named_relative_to_the_pipeline() -> None:
    folder = CODE_FOLDER / "configs" / "pipelines" / "churn"
    read = read_table(CUSTOMERS, "churned")
    path = data_path(folder, folder, CUSTOMERS)
    assert path == "../../../docs/data/customers.csv"
    text = pipeline_text("churn", path, read, label_of(read, "churned"))
    assert f'# relative to this folder\n  source: {{kind: csv, files: ["{path}"]}}' in text
    assert data_path(folder, Path("/elsewhere/churn"), CUSTOMERS) == str(CUSTOMERS)


def test_a_table_in_the_pipelines_folder_is_named_by_its_place_there(tmp_path: Path) -> None:
    folder = tmp_path / "unfinished"
    folder.mkdir()
    assert data_path(folder, tmp_path / "made", folder / "data" / "x.csv") == "data/x.csv"


@pytest.mark.parametrize("option", ["--from", "--label"])
def test_a_table_and_its_label_are_named_together(option: str, parent: Path) -> None:
    result = runner.invoke(app, ["new", "made", option, "x"])
    assert result.exit_code == 2
    assert "--from and --label: expected both" in result.stderr


def test_read_table_names_a_file_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows; expected some below the header"):
        read_table(table(tmp_path, {"x": [], "y": []}), "y")


def test_the_customers_are_what_their_script_makes(tmp_path: Path) -> None:
    script = tmp_path / "make_customers.py"
    script.write_text((CUSTOMERS.parent / script.name).read_text())
    runpy.run_path(str(script), run_name="__main__")
    assert (tmp_path / CUSTOMERS.name).read_bytes() == CUSTOMERS.read_bytes()
