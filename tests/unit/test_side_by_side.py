"""Which tests get one worker process, so that one Airflow runs at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from side_by_side import unit_of

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("test", "unit"),
    [
        ("tests/e2e/test_airflow_faults.py::test_x", "tests/e2e/"),
        ("tests/e2e/test_airflow_starts.py::test_x[1::2]", "tests/e2e/"),
        ("tests/e2e/test_demo.py::test_x", "tests/e2e/"),
        (
            "tests/integration/agent/test_access.py::test_x",
            "tests/integration/agent/test_access.py",
        ),
    ],
)
def test_files_are_units_and_those_with_airflow_are_one(test: str, unit: str) -> None:
    assert unit_of(test) == unit


def workers(folder: Path, *more: str) -> dict[str, int]:
    """Run four files on two workers; return the process of each by the file's name."""
    tests = folder / "tests"
    names = ("airflow_a", "airflow_b", "demo", "model")
    for name in names:
        room = tests / ("integration" if name == "model" else "e2e")
        room.mkdir(parents=True, exist_ok=True)
        place = folder / name
        write = f"pathlib.Path({str(place)!r}).write_text(str(os.getpid()))"
        code = f"import os, pathlib\ndef test(): {write}"
        (room / f"test_{name}.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null"]
    command += ["--rootdir", str(folder), str(tests)]
    command += ["-p", "side_by_side", "-p", "xdist", "-n", "2", "-p", "no:cacheprovider", *more]
    own = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run(command, env={**os.environ, **own}, check=True, cwd=folder)
    return {name: int((folder / name).read_text()) for name in names}


def test_all_files_with_airflow_have_one_worker_and_others_another(tmp_path: Path) -> None:
    by_file = workers(tmp_path, "--dist", "loadfile")
    assert len({by_file[name] for name in ("airflow_a", "airflow_b", "demo")}) == 1
    assert by_file["model"] != by_file["demo"]
