"""Artifact paths: one place each, and run ids that are safe as folder names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import NotFoundError
from contract.layout import PipelineLayout, RunLayout, run_folder
from contract.places import CODE_FOLDER


def test_a_plain_run_id_is_its_own_folder() -> None:
    assert run_folder("manual-1") == "manual-1"


@given(st.text(min_size=1), st.text(min_size=1))
def test_run_folders_are_safe_and_do_not_collide(first: str, second: str) -> None:
    folder = run_folder(first)

    assert folder not in ("", ".", "..")
    assert "/" not in folder
    assert ":" not in folder
    assert first == second or folder != run_folder(second)


def test_an_unknown_step_is_refused() -> None:
    with pytest.raises(NotFoundError, match="step 'trian': unknown"):
        RunLayout(Path("/r"), "digits", "1").step("trian")


def test_only_whole_packages_count_as_kept_versions(tmp_path: Path) -> None:
    layout = PipelineLayout(tmp_path, "digits")
    for version in (2, 10, 3):
        layout.version(version).mkdir(parents=True)
    for version in (2, 10):
        (layout.version(version) / "package.json").write_text("{}")

    assert layout.kept_versions() == [2, 10]


def test_a_version_that_is_not_kept_is_refused_with_those_that_are(tmp_path: Path) -> None:
    layout = PipelineLayout(tmp_path, "digits")
    with pytest.raises(NotFoundError, match=r"^digits: version 2 is not kept \(kept: none\)$"):
        layout.check_kept(2)
    for version in (3, 2):
        layout.version(version).mkdir(parents=True)
        layout.package_manifest(version).write_text("{}")
    layout.check_kept(2)
    with pytest.raises(NotFoundError, match=r"version 4 is not kept \(kept: 2, 3\)$"):
        layout.check_kept(4)


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("package.json", "contract/layout.py"),
        ("result.json", "contract/layout.py"),
        ("manifest.json", "contract/layout.py"),
        ("ended.json", "contract/layout.py"),
        ("slipway.outcome", "contract/tracked_run.py"),
        ("SLIPWAY_DATA_PLANE_URL", "contract/addresses.py"),
    ],
)
def test_a_name_stands_in_one_file(name: str, owner: str) -> None:
    rooms = ("cli", "components", "contract", "launching", "operators", "serving")
    files = [file for room in rooms for file in (CODE_FOLDER / room).rglob("*.py")]
    having = {str(f.relative_to(CODE_FOLDER)) for f in files if f'"{name}"' in f.read_text()}
    assert having == {owner}
