"""A test that leaves a file in the checkout fails, whatever else it shows."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
SUITE = """
from pathlib import Path

def test_writes_into_its_own_folder(tmp_path): (tmp_path / "mlruns").mkdir()
def test_leaves_a_folder(): Path("mlruns").mkdir()
def test_leaves_a_tools_cache(): Path(".mypy_cache").mkdir()
def test_leaves_our_state(): Path(".slipway").mkdir()
def test_removes_what_it_made():
    Path("made").mkdir()
    Path("made").rmdir()
"""


def test_a_test_that_leaves_a_file_fails_and_the_next_does_not(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tmp_path)]
    command += [str(tmp_path), "-p", "leftovers", "-p", "no:cacheprovider"]
    own = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment = {**os.environ, **own}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "5 passed, 2 errors" in done.stdout, done.stdout
    for name in ("mlruns", ".slipway"):
        assert f"left in {tmp_path}, by this test or one beside it: {name}\n" in done.stdout
