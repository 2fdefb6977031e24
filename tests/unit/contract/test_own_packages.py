"""A pipeline's packages: installed once, under the lock, without secrets, for a step or a pod."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest

from contract.errors import ConfigError
from contract.own_packages import install_requirements, with_own_packages
from contract.places import CODE_FOLDER

PKG_INFO = "Metadata-Version: 2.1\nName: boots\nVersion: 1.0\n"
MakeWheel = Callable[[Path, str], None]


@pytest.fixture
def pipeline(tmp_path: Path, make_wheel: MakeWheel) -> Path:
    """A pipeline folder whose requirements come from a folder of wheels, not from the network."""
    make_wheel(tmp_path / "wheels", "1.0")
    folder = tmp_path / "shoes"
    folder.mkdir()
    require(folder, "shoelace==1.0")
    return folder


def require(pipeline: Path, *requirements: str) -> None:
    lines = ["--no-index", f"--find-links {pipeline.parent / 'wheels'}", *requirements]
    (pipeline / "requirements.txt").write_text("\n".join(lines))


def test_a_pipeline_without_requirements_needs_no_environment(tmp_path: Path) -> None:
    assert install_requirements(tmp_path, tmp_path / "home") is None
    assert not (tmp_path / "home").exists()


SHOWN = "import shoelace, contract; print(shoelace.VERSION, contract.__file__)"


def in_a_pod(pipeline: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run Python as a pod of the pipeline would, whose temporary folder is its own."""
    command = with_own_packages(pipeline, sys.executable, (sys.executable, *words))
    environment = {**os.environ, "PYTHONPATH": str(CODE_FOLDER), "TMPDIR": str(pipeline.parent)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_pod_installs_its_pipelines_packages_and_becomes_the_step(pipeline: Path) -> None:
    done = in_a_pod(pipeline, "-c", SHOWN)
    assert done.stdout.split() == ["1.0", str(CODE_FOLDER / "contract" / "__init__.py")]
    assert in_a_pod(pipeline, "-c", "raise SystemExit(7)").returncode == 7


def test_a_pod_whose_packages_cannot_be_had_says_why_and_is_not_tried_again(pipeline: Path) -> None:
    require(pipeline, "shoelace==9.9")
    done = in_a_pod(pipeline, "-c", SHOWN)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("shoes/requirements.txt: cannot be installed:")


def test_without_packages_a_command_stays_as_it_is(tmp_path: Path) -> None:
    assert with_own_packages(tmp_path, "python", ("a", "b")) == ("a", "b")


def test_requirements_are_installed_once_however_many_ask(pipeline: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ThreadPoolExecutor(4) as pool:
        places = list(pool.map(lambda _: install_requirements(pipeline, home), range(4)))
    assert len(set(places)) == 1
    before = (places[0] / "shoelace.py").stat().st_mtime_ns  # type: ignore[operator]
    os.utime(places[0], (0, 0))  # type: ignore[arg-type]
    assert install_requirements(pipeline, home) == places[0]
    assert (places[0] / "shoelace.py").stat().st_mtime_ns == before  # type: ignore[operator]
    assert places[0].stat().st_mtime > 0, "its use is not noted"  # type: ignore[union-attr]


def test_changed_requirements_make_another_environment(
    pipeline: Path, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    first = install_requirements(pipeline, tmp_path / "home")
    make_wheel(tmp_path / "wheels", "2.0")
    require(pipeline, "shoelace==2.0")
    second = install_requirements(pipeline, tmp_path / "home")
    assert first != second
    assert second is not None
    assert "2.0" in (second / "shoelace.py").read_text()


@pytest.mark.parametrize("wrong", ["shoelace==9.9", "numpy==1.0"])
def test_requirements_that_cannot_be_met_or_break_the_lock_are_the_users_error(
    wrong: str, pipeline: Path, tmp_path: Path
) -> None:
    require(pipeline, wrong)
    with pytest.raises(ConfigError, match=r"shoes/requirements\.txt: cannot be installed"):
        install_requirements(pipeline, tmp_path / "home")
    assert not list((tmp_path / "home" / "environments").glob("*[!k]/*"))  # nothing half there


def test_without_a_lock_file_what_is_installed_constrains_a_pipelines_packages(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(pipeline, "numpy==1.0")
    monkeypatch.setattr("contract.own_packages.CODE_FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=rf"numpy=={version('numpy')}"):
        install_requirements(pipeline, tmp_path / "home")
    require(pipeline, "shoelace")
    assert install_requirements(pipeline, tmp_path / "home") is not None


def test_another_file_under_a_locked_name_is_refused(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "lock.txt").write_text(f"shoelace==1.0 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr("contract.own_packages.CODE_FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=r"Hash mismatch for `shoelace==1\.0`"):
        install_requirements(pipeline, tmp_path / "home")


SETUP = """
import json, os, pathlib
pathlib.Path(os.environ["HOME"], "seen.json").write_text(json.dumps(dict(os.environ)))
from setuptools import setup
setup(name="boots", version="1.0", py_modules=["boots"])
"""


@pytest.fixture
def sources(pipeline: Path) -> Path:
    """A folder with the source of a package whose build tells what it sees."""
    folder = pipeline.parent / "wheels"
    with tarfile.open(folder / "boots-1.0.tar.gz", "w:gz") as archive:
        for name, text in {"setup.py": SETUP, "boots.py": "", "PKG-INFO": PKG_INFO}.items():
            member = tarfile.TarInfo(f"boots-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return folder


def test_a_source_distribution_is_not_built(sources: Path, pipeline: Path, tmp_path: Path) -> None:
    require(pipeline, "boots")
    with pytest.raises(ConfigError, match=r"shoes/requirements\.txt: cannot be installed"):
        install_requirements(pipeline, tmp_path / "home")


def test_an_installation_sees_no_secrets(
    sources: Path, pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = (
        *("AIRFLOW__API_AUTH__JWT_SECRET", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY"),
        *("SLIPWAY_AGENT_TOKEN_FILE", "KUBECONFIG", "_AIRFLOW__AS_LIBRARY"),
    )
    for name in secrets:
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UV_NO_BUILD_ISOLATION", "1")  # setuptools is here; there is no index
    require(pipeline, "boots", "--no-binary boots")
    assert install_requirements(pipeline, tmp_path / "home") is not None
    seen = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    assert not seen.keys() & set(secrets)
    assert "s3cret" not in seen.values()
