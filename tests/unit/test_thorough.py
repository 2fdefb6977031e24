"""What `--thorough` leaves out, and that it says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
SUITE = """
import pytest

@pytest.mark.thorough
def test_slow(): ...

def test_quick(): ...
"""


def run(folder: Path, *words: str) -> str:
    """Run the suite as a project of its own; return what pytest said."""
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null"]
    command += ["--rootdir", str(folder), str(folder)]
    command += ["-p", "thorough", "-p", "no:cacheprovider", *words]
    own = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment = {**os.environ, **own}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(folder: Path, *words: str) -> None:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    subprocess.run(command, check=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "2 passed"),
        (["--thorough", "all"], "2 passed"),
        (["--thorough", "none"], "1 passed, 1 deselected"),
        (["--thorough", "reached"], "2 passed"),  # without git nothing is known
    ],
)
def test_thorough_tests_run_as_asked(tmp_path: Path, words: list[str], expected: str) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    assert expected in run(tmp_path, *words)


def test_thorough_tests_run_where_a_change_reaches_them(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / ".gitignore").write_text("__pycache__/")
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "checkout", "-qb", "work")
    words = ("--thorough", "reached", "--since", "main")
    assert "2 passed" in run(tmp_path, *words), "what was changed last is not known"
    (tmp_path / "README.md").touch()
    assert "1 passed, 1 deselected" in run(tmp_path, *words)
    assert "2 deselected" in run(tmp_path, "-m", "thorough", *words), "none is no failure"
    (tmp_path / "setup.cfg").touch()
    assert "2 passed" in run(tmp_path, *words)
