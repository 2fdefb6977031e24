"""Finding, reading, overriding and freezing a pipeline folder."""

from pathlib import Path

import pytest

from contract.errors import ConfigError, NotFoundError
from contract.layout import RunLayout
from contract.loader import (
    find_pipeline,
    freeze_pipeline,
    load_frozen,
    load_pipeline,
    load_runtime,
    parse_overrides,
    pipeline_digest,
)
from contract.schema.data import CsvSource

YAML = """
name: houses
features: {rooms: {dtype: int64}}
heads: {price: {task: regression}}
ingest: {source: {kind: csv, files: [data/a.csv, /far/b.csv]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pipelines" / "houses"
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(YAML)
    (folder / "model.py").write_text("SIZE = 1\n")
    (folder / "data").mkdir()
    (folder / "data" / "a.csv").write_text("rooms,price\n")
    return folder


def test_relative_sources_are_taken_from_the_folder(folder: Path) -> None:
    source = load_pipeline(folder).ingest.source

    assert isinstance(source, CsvSource)
    assert source.files == (str(folder / "data" / "a.csv"), "/far/b.csv")


def test_overrides_pass_the_same_validation(folder: Path) -> None:
    assert load_pipeline(folder, {"train.steps": 5}).train.steps == 5
    with pytest.raises(ConfigError, match="train.stepps: unknown key; did you mean 'steps'"):
        load_pipeline(folder, {"train.stepps": 5})


def test_override_text_is_read_as_yaml() -> None:
    assert parse_overrides(
        ["train.steps=200", "bless.metric=auc", "deploy.ladder_percent=[100]"]
    ) == {
        "train.steps": 200,
        "bless.metric": "auc",
        "deploy.ladder_percent": [100],
    }
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        parse_overrides(["train.steps"])


def test_a_misspelt_pipeline_is_told_the_nearest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(folder.parent))

    assert find_pipeline("houses") == folder
    with pytest.raises(NotFoundError, match="did you mean 'houses'"):
        find_pipeline("house")


def test_a_name_other_than_the_folder_is_refused(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match="name: found 'homes', expected the folder's own, 'houses'"
    ):
        load_pipeline(folder, {"name": "homes"})


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "{a: 1, a: 3}", "b:\n  - {a: 1, a: 1}\n"])
def test_a_key_that_is_there_twice_is_refused_with_both_places(folder: Path, text: str) -> None:
    (folder / "pipeline.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"key 'a' again; it is there on line 1|line 2") as error:
        load_pipeline(folder)
    assert "column" in str(error.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "name: [", "\x00"])
def test_what_is_no_yaml_mapping_is_refused(folder: Path, text: str) -> None:
    (folder / "pipeline.yaml").write_text(text)

    with pytest.raises(ConfigError, match=r"houses/pipeline.yaml: (expected keys|not readable)"):
        load_pipeline(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "houses/pipeline.yaml: empty; expected keys and values"),
        ("true", "expected keys and values, found true"),
        (YAML + "name: flats\n", "line 6, column 1: key 'name' again; it is there on line 2"),
        ("a: [1\n", "not readable as YAML: line 2, column 1: while parsing a flow sequence"),
    ],
)
def test_a_file_that_is_no_config_is_said_in_one_line(folder: Path, text: str, said: str) -> None:
    (folder / "pipeline.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_pipeline(folder)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_configs_place_is_an_error(folder: Path) -> None:
    (folder / "pipeline.yaml").unlink()
    (folder / "pipeline.yaml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_pipeline(folder)


def test_an_edit_in_mid_run_changes_nothing(folder: Path, tmp_path: Path) -> None:
    run = RunLayout(tmp_path / "root", "houses", "r1")
    freeze_pipeline(folder, run, {"train.steps": 5})
    digest = pipeline_digest(run)
    (folder / "model.py").write_text("SIZE = 2\n")
    (folder / "pipeline.yaml").write_text(YAML + "train: {steps: 9}\n")

    freeze_pipeline(folder, run, {})

    assert load_frozen(run).train.steps == 5
    assert (run.frozen_pipeline / "model.py").read_text() == "SIZE = 1\n"
    assert pipeline_digest(run) == digest
    assert not (run.frozen_pipeline / "data").exists()


def test_a_frozen_run_refuses_other_overrides(folder: Path, tmp_path: Path) -> None:
    run = RunLayout(tmp_path / "root", "houses", "r1")
    freeze_pipeline(folder, run, {"train.steps": 5})

    with pytest.raises(
        ConfigError, match="already frozen with another train.steps; start a new run"
    ):
        freeze_pipeline(folder, run, {"train.steps": 6})


def test_an_unknown_runtime_is_told_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'local'"):
        load_runtime("locale")
