"""Where Slipway's own files lie, and where its user's."""

import re
from pathlib import Path

import pytest

from contract import places
from contract.errors import NotFoundError
from contract.loader import load_runtime, own_state_folder, state_folder
from contract.pipelines import pipeline_folders
from contract.places import CODE_FOLDER, config_folders, workspace
from slipway.code_path import PACKAGES

DIGITS = CODE_FOLDER / "configs" / "pipelines" / "digits"


# How a module would find the checkout by itself: in a wheel there is none above it.
BY_ITSELF = re.compile(r"__file__\)(\.resolve\(\)|\.absolute\(\))*\.parents?\b")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slipway as a wheel installs it: its code is no longer where the user works."""
    monkeypatch.setattr(places, "IS_INSTALLED", True)


def write_runtime(folder: Path, name: str, root: str) -> None:
    runtimes = folder / "configs" / "runtimes"
    runtimes.mkdir(parents=True, exist_ok=True)
    (runtimes / f"{name}.yaml").write_text(f"kind: local\nroot: {root}\n")


def test_a_checkout_is_its_own_workspace_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert workspace({"SLIPWAY_WORKSPACE": "/elsewhere"}) == CODE_FOLDER
    assert (CODE_FOLDER / "pyproject.toml").is_file()
    assert config_folders("pipelines") == [CODE_FOLDER / "configs" / "pipelines"]


@pytest.mark.usefixtures("installed")
def test_the_workspace_of_an_installed_slipway_is_named_or_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert workspace({}) == tmp_path
    assert workspace({"SLIPWAY_WORKSPACE": "/elsewhere"}) == Path("/elsewhere")
    assert state_folder({"SLIPWAY_WORKSPACE": "/elsewhere"}) == Path("/elsewhere/.slipway")


@pytest.mark.usefixtures("installed")
def test_pipelines_of_the_workspace_are_found_beside_the_shipped_ones_and_replace_them(
    tmp_path: Path,
) -> None:
    own = tmp_path / "configs" / "pipelines"
    environment = {"SLIPWAY_WORKSPACE": str(tmp_path)}
    assert pipeline_folders(environment)["digits"] == DIGITS
    for name in ("digits", "churn"):
        (own / name).mkdir(parents=True)
        (own / name / "pipeline.yaml").touch()
    found = pipeline_folders(environment)
    assert (found["digits"], found["churn"]) == (own / "digits", own / "churn")


@pytest.mark.usefixtures("installed")
def test_a_runtime_of_the_workspace_replaces_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_WORKSPACE", str(tmp_path))
    assert load_runtime("local").root != "/data/models"
    write_runtime(tmp_path, "local", "/data/models")
    write_runtime(tmp_path, "laptop", "/data/laptop")
    assert load_runtime("local").root == "/data/models"
    assert load_runtime("laptop").root == "/data/laptop"
    with pytest.raises(NotFoundError, match=r"known: kubernetes, laptop, local"):
        load_runtime("lapptop")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_works_out_by_itself_where_our_files_lie(package: str) -> None:
    files = sorted((CODE_FOLDER / package).rglob("*.py"))
    assert [f for f in files if BY_ITSELF.search(f.read_text(encoding="utf-8"))] == []
    assert BY_ITSELF.search("ROOT = Path(__file__).resolve().parents[1]")


def test_who_writes_into_the_state_folder_keeps_others_out_of_it(tmp_path: Path) -> None:
    environment = {"SLIPWAY_HOME": str(tmp_path / "deep" / "home")}
    home = own_state_folder(environment)
    assert home.stat().st_mode & 0o777 == 0o700
    home.chmod(0o755)  # as an older version made it
    assert own_state_folder(environment) == state_folder(environment) == home
    assert home.stat().st_mode & 0o777 == 0o700
