"""Our packages are found first, and one of the same name is not taken for ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.places import CODE_FOLDER


def python(code: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run code in a folder, which comes before ours on the path."""
    path = os.pathsep.join([str(folder), str(CODE_FOLDER)])
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_module_of_the_same_name_in_the_current_folder_does_not_hide_ours(
    tmp_path: Path,
) -> None:
    (tmp_path / "contract.py").write_text("")
    done = python("import slipway, contract; print(contract.__file__)", tmp_path)
    assert done.stdout.strip() == str(CODE_FOLDER / "contract" / "__init__.py")


@pytest.mark.parametrize("namesake", ["components.py", "components/"])
def test_one_that_is_imported_already_is_named_with_what_to_do(
    namesake: str, tmp_path: Path
) -> None:
    place = tmp_path / namesake
    if namesake.endswith("/"):
        place.mkdir()  # a package without __init__.py
        code = f"import sys; sys.path.remove('{CODE_FOLDER}'); import components; "
        code += f"sys.path.append('{CODE_FOLDER}'); import slipway"
    else:
        place.write_text("")
        code = "import components, slipway"
    done = python(code, tmp_path)
    assert done.returncode == 1
    assert f"Slipway has a package 'components', and {place} of the same name" in done.stderr
    assert "rename that module" in done.stderr


def test_a_checkout_is_its_own_workspace_and_sets_no_variable(tmp_path: Path) -> None:
    done = python("import os, slipway; print('SLIPWAY_WORKSPACE' in os.environ)", tmp_path)
    assert done.stdout.strip() == "False"


def test_the_command_is_also_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slipway", "schema", "--output", str(tmp_path / "schema.json")],
        cwd=CODE_FOLDER,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / "schema.json").stat().st_size > 1000, done.stderr
