import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.errors import ConfigError
from contract.places import CODE_FOLDER
from contract.schema.runtime import RuntimeConfig
from launching.environment import (
    artifact_root,
    component_environment,
    current_runtime,
    may_fork,
    run_root,
)

PKG_INFO = "Metadata-Version: 2.1\nName: boots\nVersion: 1.0\n"
MakeWheel = Callable[[Path, str], None]


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
