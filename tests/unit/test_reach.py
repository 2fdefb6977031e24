"""Which changes reach which tests."""

import subprocess
from pathlib import Path

import pytest
from reach import changed_files, files_of, is_reached

FILES = {
    "contract/__init__.py": "",
    "contract/command.py": "",
    "contract/layout.py": "",
    "components/__init__.py": "",
    "components/ingest/__init__.py": "",
    "components/ingest/units.py": "from components.ingest.sources import module_of",
    "components/ingest/sources/__init__.py": "",
    "components/ingest/sources/idx.py": "",
    "components/train/__init__.py": "",
    "components/train/__main__.py": "from .peers import team",
    "components/train/peers/__init__.py": "",
    "components/train/peers/team.py": "",
    "launching/__init__.py": "",
    "launching/guard.py": "def f():\n    from contract import layout",
    "cli/__init__.py": "",
    "cli/main.py": "",
    "tests/conftest.py": "",
    "tests/callers.py": "",
    "tests/integration/a/conftest.py": "import callers",
    "tests/integration/a/nursery.py": "import cli.main",
    "tests/integration/a/test_pure.py": "import contract.layout",
    "tests/integration/a/test_beside.py": "from nursery import x",
    "tests/integration/a/test_named.py": "command = ['python', '-m', 'launching.guard']",
    "tests/integration/a/test_starts.py": "from contract.command import StepCommand",
    "tests/integration/a/test_reader.py": "import components.ingest.units",
    "tests/integration/a/test_relative.py": "import components.train.__main__",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, code in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    return tmp_path


@pytest.mark.parametrize(
    ("test", "changed", "expected"),
    [
        ("pure", "contract/layout.py", True),  # imported
        ("pure", "contract/__init__.py", True),  # its package
        ("pure", "contract/command.py", False),
        ("pure", "cli/main.py", False),
        ("pure", "tests/integration/a/test_pure.py", True),  # itself
        ("pure", "tests/integration/a/test_named.py", False),
        ("pure", "tests/conftest.py", True),  # above it
        ("pure", "tests/callers.py", True),  # imported by the one beside it
        ("beside", "cli/main.py", True),  # by way of support beside it
        ("named", "launching/guard.py", True),  # started by name
        ("named", "contract/layout.py", True),  # imported by that, in a function
        ("starts", "components/train/peers/team.py", True),  # any component
        ("starts", "launching/guard.py", False),
        ("reader", "components/ingest/sources/idx.py", True),  # imported by its kind's name
        ("reader", "components/train/peers/team.py", False),
        ("relative", "components/train/peers/team.py", True),
        ("pure", "docs/training.md", False),
        ("pure", "README.md", False),
        ("pure", "tests/unit/test_x.py", False),
        ("pure", "tests/durations.py", True),  # a plugin
        ("pure", "requirements/lock.txt", True),  # may have any effect
        ("pure", "configs/pipelines/digits/model.py", True),
        ("pure", "Makefile", True),
    ],
)
def test_a_change_reaches_a_test(root: Path, test: str, changed: str, expected: bool) -> None:
    assert is_reached(root, f"tests/integration/a/test_{test}.py", [changed]) is expected


def test_one_of_many_changes_is_enough(root: Path) -> None:
    test = "tests/integration/a/test_pure.py"
    assert is_reached(root, test, ["README.md", "contract/layout.py"])
    assert not is_reached(root, test, [])


def test_the_strategies_reach_training_and_launching_but_no_airflow() -> None:
    root = Path(__file__).resolve().parents[2]
    found = files_of(root, "tests/integration/training/test_every_strategy.py")
    assert {"components/train/__main__.py", "components/train/peers/team.py"} <= found
    assert "launching/processes/role_processes.py" in found
    assert "contract/storage.py" in found
    assert not any(
        file.startswith(("cli/", "dags/", "operators/", "serving/agent")) for file in found
    )


def git(root: Path, *words: str) -> None:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    subprocess.run(command, check=True)


def test_changes_count_from_where_the_branch_began(root: Path) -> None:
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one")
    git(root, "checkout", "-qb", "work")
    assert changed_files(root, "main") is None, "what was changed last is not known"
    (root / "cli/main.py").write_text("x = 1")
    git(root, "commit", "-qam", "two")
    git(root, "mv", "contract/layout.py", "contract/places.py")
    (root / "cli/new.py").touch()
    changed = {"cli/main.py", "cli/new.py", "contract/layout.py", "contract/places.py"}
    assert changed_files(root, "main") == changed
    assert changed_files(root, "nobody/main") is None


def test_without_git_nothing_is_known(root: Path) -> None:
    assert changed_files(root, "main") is None
