"""new, check, schema."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.scaffold.folder import runtime_schema_path, schema_path, schema_text
from contract import places
from contract.loader import load_pipeline

runner = CliRunner()


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pipelines"
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(folder))
    return folder


def new(name: str, parent: Path) -> Path:
    assert runner.invoke(app, ["new", name, "--into", str(parent)]).exit_code == 0
    return parent / name


def test_new_makes_a_folder_that_loads(parent: Path) -> None:
    folder = new("wine_2", parent)
    assert load_pipeline(folder).name == "wine_2"
    assert sorted(p.name for p in folder.iterdir()) == [
        "model.py",
        "pipeline.yaml",
        "preprocessing.py",
    ]


def test_new_points_editors_at_the_schema(parent: Path) -> None:
    first = (new("wine", parent) / "pipeline.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={schema_path()}"


@pytest.mark.parametrize("name", ["Wine", "2wine", "wi-ne", "wine/red", "w" * 41])
def test_new_refuses_a_name_that_is_none(name: str, parent: Path) -> None:
    result = runner.invoke(app, ["new", name, "--into", str(parent)])
    assert result.exit_code == 2
    assert "expected a lower-case letter" in result.stderr
    assert not (parent / name).exists()


def test_new_refuses_a_folder_that_is_there(parent: Path) -> None:
    (parent / "wine").mkdir(parents=True)
    result = runner.invoke(app, ["new", "wine", "--into", str(parent)])
    assert result.exit_code == 2
    assert "already exists" in result.stderr
    assert list((parent / "wine").iterdir()) == []


def test_new_refuses_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = runner.invoke(app, ["new", "wine", "--into", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "cannot create a folder there" in result.stderr


def test_new_refuses_a_name_that_another_folder_has(parent: Path) -> None:
    result = runner.invoke(app, ["new", "digits", "--into", str(parent)])
    assert result.exit_code == 2
    assert "pipeline 'digits': already exists" in result.stderr


def test_new_says_how_the_pipeline_is_found_beside_those_that_are(
    tmp_path: Path, parent: Path
) -> None:
    place = tmp_path / "my pipelines"
    result = runner.invoke(app, ["new", "wine", "--into", str(place)])
    assert f"export SLIPWAY_PIPELINES='{parent}:{place}'" in result.stderr


def test_new_goes_into_the_users_own_folder_of_pipelines(parent: Path) -> None:
    result = runner.invoke(app, ["new", "wine"])
    assert (parent / "wine" / "pipeline.yaml").is_file()
    assert "export" not in result.stderr


def test_the_commands_that_new_prints_work_as_printed(tmp_path: Path) -> None:
    """Called by a path, as after `make setup`, and from a folder of one's own."""
    called = Path(sys.executable).with_name("slipway")
    environment = {**os.environ, "SLIPWAY_HOME": str(tmp_path / "home")}
    del environment["PATH"]
    place = tmp_path / "mine"
    made = subprocess.run(
        [str(called), "new", "wine", "--into", str(place)],
        cwd=tmp_path,
        env=environment,
        check=True,
        text=True,
        capture_output=True,
    )
    printed = [line.partition("  ")[2] for line in made.stderr.splitlines()[1:]]
    assert printed[1] == f"{called} check wine && {called} run wine --local"
    commands = f"{printed[0]} && {called} status wine"
    shown = subprocess.run(
        ["/bin/sh", "-c", commands], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert "wine: nothing is in service" in shown.stdout


def test_check_shows_all_problems_of_a_config_at_once(parent: Path) -> None:
    config = new("wine", parent) / "pipeline.yaml"
    config.write_text(config.read_text().replace("learning_rate:", "learnin_rate:"))
    result = runner.invoke(app, ["check", "wine", "--set", "train.steps=0"])
    assert result.exit_code == 2
    assert "train.learnin_rate: unknown key; did you mean 'learning_rate'?" in result.stdout
    assert "train.steps" in result.stdout


def test_check_refuses_an_override_of_a_wrong_form(parent: Path) -> None:
    new("wine", parent)
    result = runner.invoke(app, ["check", "wine", "--set", "train.steps"])
    assert result.exit_code == 2
    assert "expected KEY=VALUE" in result.stderr


def test_the_schemas_on_disk_are_in_step_with_the_config() -> None:
    assert schema_path().read_text() == schema_text(), "run 'slipway schema'"
    runtime = runtime_schema_path().read_text()
    assert runtime == schema_text(is_runtime=True), "run 'slipway schema'"


def test_schema_without_options_writes_both_into_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "IS_INSTALLED", True)
    monkeypatch.setenv("SLIPWAY_WORKSPACE", str(tmp_path))
    (tmp_path / "configs").mkdir()
    result = runner.invoke(app, ["schema"])
    assert result.exit_code == 0, result.stderr
    written = {path.name: json.loads(path.read_text()) for path in (tmp_path / "configs").iterdir()}
    titles = {name: schema["title"] for name, schema in written.items()}
    assert titles == {
        "pipeline.schema.json": "PipelineConfig",
        "runtime.schema.json": "RuntimeConfig",
    }


def test_the_runtime_schema_alone_goes_where_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert runner.invoke(app, ["schema", "--runtime", "--output", str(path)]).exit_code == 0
    properties = json.loads(path.read_text())["properties"]
    assert {"kind", "root", "job", "kubernetes"} <= properties.keys()
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_shipped_runtime_files_point_editors_at_the_schema() -> None:
    folder = runtime_schema_path().parent / "runtimes"
    firsts = {path.stem: path.read_text().splitlines()[0] for path in folder.glob("*.yaml")}
    wanted = "# yaml-language-server: $schema=../runtime.schema.json"
    assert firsts == {"local": wanted, "kubernetes": wanted}


def test_schema_writes_where_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert runner.invoke(app, ["schema", "--output", str(path)]).exit_code == 0
    properties = json.loads(path.read_text())["properties"]
    assert {"name", "features", "heads", "ingest", "validate", "train"} <= properties.keys()


def test_shipped_pipelines_point_editors_at_the_schema() -> None:
    folder = schema_path().parent / "pipelines"
    firsts = {p.parent.name: p.read_text().splitlines()[0] for p in folder.glob("*/pipeline.yaml")}
    assert {"digits", "census", "mnist"} <= firsts.keys()
    wanted = "# yaml-language-server: $schema=../../pipeline.schema.json"
    assert [name for name, first in firsts.items() if first != wanted] == []
