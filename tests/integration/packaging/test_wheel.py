"""The wheel: what is in it, and a run from an empty folder where it is installed."""

import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from installed import Environment

from contract.places import CODE_FOLDER
from slipway.code_path import PACKAGES

# Where the process that imports the user's code finds modules, and where ours are.
REPORT = """
import json as _json, os as _os, sys as _sys
from pathlib import Path as _Path
_ours = {n: m.__file__ for n, m in list(_sys.modules.items()) if n in %r}
_Path(_os.environ["SEEN"], __name__ + str(_os.getpid())).write_text(
    _json.dumps({"path": _sys.path, "ours": _ours})
)
"""


def test_the_wheel_takes_one_name_of_site_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"slipway", "slipway.pth"}
    beside = {name.split("/")[2] for name in names if name.startswith("slipway/_code/")}
    assert beside == {*PACKAGES, "configs"}


def test_the_wheel_has_what_git_has_of_each_package(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES],
        cwd=CODE_FOLDER,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    with zipfile.ZipFile(wheel) as archive:
        names = {n.removeprefix("slipway/_code/") for n in archive.namelist()}
    ours = {name for name in names if name.partition("/")[0] in PACKAGES}
    assert ours == {file for file in listed if (CODE_FOLDER / file).exists()}


@pytest.mark.long
def test_a_pipeline_runs_from_an_empty_folder(whole: Environment, tmp_path: Path) -> None:
    workspace, seen = tmp_path / "work", tmp_path / "seen"
    workspace.mkdir()
    seen.mkdir()
    assert whole.run("slipway", "new", "churn", cwd=workspace).returncode == 0
    folder = workspace / "configs" / "pipelines" / "churn"
    for user_code in ("preprocessing.py", "model.py"):
        with (folder / user_code).open("a") as file:
            file.write(REPORT % (PACKAGES,))
    before = {path for path in whole.code.rglob("*") if "__pycache__" not in path.parts}

    words = ["run", "churn", "--local", "--json", "--set", "train.steps=100"]
    words += ["--set", "optimize.engines.candidates=[tensorflow]"]
    done = whole.run("slipway", *words, cwd=workspace, SEEN=str(seen))

    assert done.returncode == 0, done.stderr
    ending = json.loads(done.stdout)
    assert (ending["outcome"], ending["version"]) == ("packaged", 1)
    runs = workspace / ".slipway" / "artifacts" / "churn" / "runs"
    assert (runs / ending["run_id"] / "package" / "result.json").is_file()
    after = {path for path in whole.code.rglob("*") if "__pycache__" not in path.parts}
    assert after == before, "a run writes into the installed package"
    reports = [json.loads(file.read_text()) for file in seen.iterdir()]
    assert len(reports) >= 2  # transform imports one of the files, train the other
    for report in reports:
        assert_from_wheel(report, whole)


def assert_from_wheel(report: dict[str, object], whole: Environment) -> None:
    """No entry of the path is the checkout or lies in it, but the folder of locked packages."""
    path, ours = report["path"], report["ours"]
    assert isinstance(path, list) and isinstance(ours, dict)
    entries = {Path(entry).resolve() for entry in path}
    assert whole.code.resolve() in entries
    assert not {e for e in entries if e.name != "site-packages" and e.is_relative_to(CODE_FOLDER)}
    assert ours and all(Path(file).is_relative_to(whole.code) for file in ours.values())


def test_airflow_reads_the_dags_of_the_workspace_and_the_shipped_example(
    whole: Environment, tmp_path: Path
) -> None:
    assert whole.run("slipway", "new", "churn", cwd=tmp_path).returncode == 0
    code = (
        "import json, slipway; from airflow.dag_processing.dagbag import DagBag; "
        "bag = DagBag(str(slipway.CODE_FOLDER / 'dags')); "
        "print(json.dumps([sorted(bag.dags), bag.import_errors]))"
    )
    home = {"AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = whole.run("python", "-c", code, cwd=tmp_path, **home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [["churn", "digits"], {}]


def test_mlflow_finds_the_loader_of_our_models_without_slipway_being_imported(
    whole: Environment, tmp_path: Path
) -> None:
    code = "import serving.server.pyfunc as loader; print(loader.__file__)"
    done = whole.run("python", "-c", code, cwd=tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(whole.code), done.stderr


@pytest.mark.parametrize("name", ["cli", "contract", "components"])
def test_a_package_of_another_project_with_the_name_of_ours_does_no_harm(
    name: str, whole: Environment, tmp_path: Path
) -> None:
    other = whole.site_packages / f"{name}.py"
    other.write_text("raise AssertionError('another project')\n")
    try:
        done = whole.run("slipway", "schema", "--output", "schema.json", cwd=tmp_path)
    finally:
        other.unlink()
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "schema.json").read_text())["title"] == "PipelineConfig"
