"""What SLIPWAY_MUST_RUN promises: no test goes unrun without a failure that says why."""

import os
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
SUITE = {
    "test_marked.py": """
import pytest

@pytest.mark.skipif(True, reason="no mpirun")
def test_mpi(): ...

@pytest.mark.xfail(reason="known")
def test_known(): assert False

def test_good(): ...
""",
    "test_fixture.py": """
import pytest

@pytest.fixture
def data(): pytest.skip("no data")

def test_data(data): ...
""",
    "test_module.py": "import pytest; pytest.skip('no cluster', allow_module_level=True)",
}


def run(folder: Path, must_run: str) -> tuple[int, str]:
    for name, text in SUITE.items():
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null"]
    command += ["--rootdir", str(folder), str(folder)]
    command += ["-p", "must_run", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    own = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment = {**os.environ, **own, "SLIPWAY_MUST_RUN": must_run}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_a_skip_fails_and_gives_its_reason(tmp_path: Path) -> None:
    code, said = run(tmp_path, "1")
    assert code == 1
    assert "1 passed, 1 xfailed, 3 errors" in said
    for reason in ("no mpirun", "no data", "no cluster"):
        assert re.search(f"this was not run: .*{reason}", said), said


def test_without_it_a_skip_is_a_skip(tmp_path: Path) -> None:
    code, said = run(tmp_path, "")
    assert code == 0
    assert "1 passed, 3 skipped, 1 xfailed" in said
