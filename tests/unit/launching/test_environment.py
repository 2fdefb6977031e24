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
from contract.places import CODE_FOLDER
from contract.schema.runtime import RuntimeConfig
from launching.environment import (
    artifact_root,
    component_environment,
    current_runtime,
    install_requirements,
    may_fork,
    run_root,
)

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


def test_a_pipelines_own_package_is_there_for_its_components(
    pipeline: Path, tmp_path: Path
) -> None:
    packages = install_requirements(pipeline, tmp_path / "home")
    environment = component_environment(os.environ, packages)
    script = "import shoelace, contract; print(shoelace.VERSION, contract.__file__)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1.0", str(CODE_FOLDER / "contract" / "__init__.py")]


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
    monkeypatch.setattr("launching.environment.CODE_FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=rf"numpy=={version('numpy')}"):
        install_requirements(pipeline, tmp_path / "home")
    require(pipeline, "shoelace")
    assert install_requirements(pipeline, tmp_path / "home") is not None


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


def test_the_project_comes_before_other_paths_and_once() -> None:
    base = {"PYTHONPATH": os.pathsep.join(["/elsewhere", str(CODE_FOLDER)])}
    found = component_environment(base, Path("/packages"))["PYTHONPATH"].split(os.pathsep)
    assert found == [str(CODE_FOLDER), "/packages", "/elsewhere"]


def test_a_component_below_a_program_of_supervisord_does_not_pass_for_that_program() -> None:
    """Two steps below one scheduler start servers side by side, under a lock by that name."""
    base = {"SUPERVISOR_PROCESS_NAME": "airflow-scheduler", "SUPERVISOR_SERVER_URL": "unix:///s"}
    found = component_environment(base, None)
    assert "SUPERVISOR_PROCESS_NAME" not in found
    assert found["SUPERVISOR_SERVER_URL"] == "unix:///s"  # by which what is left over is found


def test_the_artifact_root_is_the_runtimes_or_in_the_state_folder(tmp_path: Path) -> None:
    home = {"SLIPWAY_HOME": str(tmp_path)}
    assert artifact_root(RuntimeConfig(), home) == tmp_path / "artifacts"
    assert artifact_root(RuntimeConfig(root="/data/models"), home) == Path("/data/models")
    assert run_root(RuntimeConfig(root="/data/models"), home) == Path("/data/models")


def test_local_runs_have_a_scratch_folder_of_an_object_store_and_others_are_refused(
    tmp_path: Path,
) -> None:
    home, runtime = {"SLIPWAY_HOME": str(tmp_path)}, RuntimeConfig(root="memory://bucket/models")
    assert run_root(runtime, home).parent == tmp_path / "scratch"
    with pytest.raises(ConfigError, match=r"services, deployment, Airflow and pods need a volume"):
        artifact_root(runtime, home)


def test_the_local_runtime_is_the_default() -> None:
    assert current_runtime({}) == current_runtime({"SLIPWAY_RUNTIME": "local"})
    assert current_runtime({}).max_parallel_components >= 2


def test_a_component_writes_utf8_whatever_the_locale(tmp_path: Path) -> None:
    base = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    script = "import sys; open('f', 'w').write('ü'); sys.stdout.write('ü ' + chr(0xdc80))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=component_environment(base, None),
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == r"ü \udc80"
    assert (tmp_path / "f").read_text(encoding="utf-8") == "ü"


@pytest.mark.parametrize(
    ("is_warm", "packages", "expected"),
    [
        (True, None, True),
        (True, Path("/packages"), False),
        (False, None, False),
        (False, Path("/packages"), False),
    ],
)
def test_a_step_with_packages_of_its_own_is_never_forked(
    is_warm: bool, packages: Path | None, expected: bool
) -> None:
    assert may_fork(is_warm, packages) is expected


HEAP = """
kept = [bytes(200) for _ in range(200_000)]
lines = open("/proc/self/smaps_rollup").read().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages")))
"""


def test_a_component_has_its_heap_in_huge_pages() -> None:
    choice = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not choice.exists() or "[never]" in choice.read_text():
        pytest.skip("this kernel gives huge pages to nobody")
    command, environment = [sys.executable, "-c", HEAP], component_environment({}, None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 20_000  # KiB, of about 50,000


def test_what_a_user_has_set_for_glibc_is_kept() -> None:
    base = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}
    found = component_environment(base, None)
    assert (found["GLIBC_TUNABLES"], found["PYTHONMALLOC"]) == (base["GLIBC_TUNABLES"], "malloc")
