"""Finding, reading, overriding and freezing a pipeline folder."""

from pathlib import Path

import pytest

from contract.errors import ConfigError, NotFoundError
from contract.layout import RunLayout
from contract.loader import (
    freeze_pipeline,
    load_frozen,
    load_pipeline,
    load_runtime,
    parse_overrides,
    pipeline_digest,
)
from contract.pipelines import find_pipeline, folder_problems, pipeline_folders
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


def test_sources_are_found_from_anywhere_if_the_folder_was_named_by_a_relative_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    source = load_pipeline(Path("houses")).ingest.source
    assert source.paths == (str(folder / "data" / "a.csv"), "/far/b.csv")


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


def make_pipeline(parent: Path, name: str) -> Path:
    (parent / name).mkdir(parents=True)
    (parent / name / "pipeline.yaml").write_text(YAML.replace("houses", name))
    return parent / name


def test_a_name_that_two_folders_have_is_refused_with_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = make_pipeline(tmp_path / "a", "flats"), make_pipeline(tmp_path / "b", "flats")
    alone = make_pipeline(tmp_path / "b", "barns")
    monkeypatch.setenv("SLIPWAY_PIPELINES", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    with pytest.raises(ConfigError, match=f"pipeline 'flats': in {one} and {other}, both of"):
        find_pipeline("flats")
    assert find_pipeline("barns") == alone
    assert "flats" not in pipeline_folders()
    assert len(folder_problems()) == 1


def test_a_folder_named_twice_is_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_pipeline(tmp_path / "a", "flats")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.setenv("SLIPWAY_PIPELINES", f"{tmp_path / 'a'}:{tmp_path / 'link'}::")
    assert find_pipeline("flats") == folder
    assert folder_problems() == []


def test_a_pipeline_elsewhere_replaces_one_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_pipeline(tmp_path, "digits")
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(tmp_path))
    assert find_pipeline("digits") == folder


def test_folders_that_cannot_hold_pipelines_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = (folder, folder / "nowhere", folder / "pipeline.yaml")
    monkeypatch.setenv("SLIPWAY_PIPELINES", ":".join(map(str, parents)))
    with pytest.raises(NotFoundError) as caught:
        find_pipeline("houses")
    expected = [
        f"{folder}: is a pipeline itself; expected its parent, {folder.parent}",
        f"{folder / 'nowhere'}: no such folder; expected a folder of pipeline folders",
        f"{folder / 'pipeline.yaml'}: is a file; expected a folder of pipeline folders",
    ]
    assert str(caught.value).splitlines()[1:] == [f"SLIPWAY_PIPELINES: {one}" for one in expected]


@pytest.mark.parametrize(
    ("given", "earlier"),
    [
        (["train.steps=200", "train.steps=300"], "train.steps"),
        (["train.steps=200", " train.steps =200"], "train.steps"),
        (["train.steps=200", "train={steps: 300}"], "train.steps"),
        (["optimize.runtimes.tolerance=1", "optimize.engines.tolerance=2"], "optimize.runtimes.to"),
    ],
)
def test_an_override_that_replaces_an_earlier_one_is_refused(
    folder: Path, given: list[str], earlier: str
) -> None:
    with pytest.raises(ConfigError, match=rf"--set .*: replaces --set {earlier}.*; remove one"):
        parse_overrides(given)


def test_overrides_of_a_form_that_replace_each_other_are_refused(folder: Path) -> None:
    overrides = {"train.steps": 200, "train": {"steps": 300}}
    with pytest.raises(ConfigError, match="the override 'train' replaces 'train.steps'; remove"):
        load_pipeline(folder, overrides)


def test_an_override_below_an_earlier_one_changes_a_part_of_it(folder: Path) -> None:
    overrides = parse_overrides(["train={steps: 200, seed: 4}", "train.steps=300", "train.seeds=1"])
    overrides.pop("train.seeds")  # no part of 'train.seed'
    config = load_pipeline(folder, overrides)
    assert (config.train.steps, config.train.seed) == (300, 4)


def test_an_override_with_a_key_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set train=.*key 'steps' is repeated"):
        parse_overrides(['train={"steps": 1, "steps": 2}'])


def test_a_name_other_than_the_folder_is_refused(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match="name: found 'homes', expected the folder's name, 'houses'"
    ):
        load_pipeline(folder, {"name": "homes"})


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "{a: 1, a: 3}", "b:\n  - {a: 1, a: 1}\n"])
def test_a_key_that_is_there_twice_is_refused_with_both_places(folder: Path, text: str) -> None:
    (folder / "pipeline.yaml").write_text(text)
    with pytest.raises(
        ConfigError, match=r"key 'a' is repeated; it is also on line 1|line 2"
    ) as error:
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
        (YAML + "name: flats\n", "line 6, column 1: key 'name' is repeated; it is also on line 2"),
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


# --- what YAML 1.1 makes of text ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("[no, yes]", ("no", "yes")),
        ("[off, on]", ("off", "on")),
        ("[False, True]", ("False", "True")),
        ("[0, 1]", ("0", "1")),
        ("[1.0, 1_000]", ("1.0", "1_000")),
        ("[2020-01-01, null]", ("2020-01-01", "null")),
        ('["no", yes]', ("no", "yes")),
    ],
)
def test_classes_are_text_as_it_is_written(folder: Path, written: str, read: tuple[str]) -> None:
    heads = f"heads: {{sold: {{task: binary_classification, classes: {written}}}}}"
    text = YAML.replace("heads: {price: {task: regression}}", heads)
    (folder / "pipeline.yaml").write_text(text)
    assert load_pipeline(folder).heads["sold"].classes == read


def test_classes_that_come_as_truth_values_are_refused_with_the_way_out(folder: Path) -> None:
    overrides = parse_overrides(["heads.price={task: binary_classification, classes: [no, yes]}"])
    assert load_pipeline(folder, overrides).heads["price"].classes == ("no", "yes")
    overrides = parse_overrides(
        ["heads.price.task=binary_classification", "heads.price.classes=[no, yes]"]
    )
    with pytest.raises(ConfigError, match=r"an unquoted no, off or false; quote it"):
        load_pipeline(folder, overrides)


def test_names_are_text_as_it_is_written(folder: Path) -> None:
    names = ["no", "on", "2020", "1_000", "null", "2020-01-01", "1.50"]
    features = ", ".join(f"{name}: {{dtype: int64}}" for name in names)
    text = YAML.replace("{rooms: {dtype: int64}}", f"{{{features}}}")
    (folder / "pipeline.yaml").write_text(text)
    assert list(load_pipeline(folder).features) == names


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("no", "the truth value that YAML makes of an unquoted no, off or false; quote it"),
        ("2020", 'the number 2020; quote it: "2020"'),
    ],
)
def test_text_that_yaml_takes_for_something_else_is_to_be_quoted(
    folder: Path, written: str, said: str
) -> None:
    (folder / "pipeline.yaml").write_text(f"{YAML}weight: {written}\n")
    with pytest.raises(ConfigError, match=f"weight: expected text, found {said}"):
        load_pipeline(folder)


def test_a_file_with_a_byte_order_mark_is_read(folder: Path) -> None:
    (folder / "pipeline.yaml").write_bytes(b"\xef\xbb\xbf" + YAML.encode())
    assert load_pipeline(folder).name == "houses"


# --- encodings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["utf8", "UTF-8", "Latin-1", "cp1252", "utf-16-le", "Shift_JIS"])
def test_encodings_that_python_knows_are_accepted(folder: Path, name: str) -> None:
    source = load_pipeline(folder, {"ingest.source.encoding": name}).ingest.source
    assert isinstance(source, CsvSource)
    assert source.encoding == name


@pytest.mark.parametrize("name", ["utf-9", "rot13", "base64", "idna", "unicode_escape", "", "a\0b"])
def test_what_is_no_encoding_of_files_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"encoding: unknown text encoding.*such as utf-8"):
        load_pipeline(folder, {"ingest.source.encoding": name})
