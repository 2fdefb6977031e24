"""The doors between rooms that no import shows have one place."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import programs
from contract.places import CODE_FOLDER
from contract.steps import STEPS

# Not slipway: MLflow's tags, such as `slipway.version`, look like its modules; nothing starts them.
ROOMS = ("cli", "components", "contract", "dags", "launching", "operators", "serving")
NAMES = [v for n, v in vars(programs).items() if n.isupper() and n != "WARM_PARENT"]
PLACE = CODE_FOLDER / "contract" / "programs.py"


def is_program(name: str) -> bool:
    """Tell whether a dotted name is a module of ours or a package that can be run."""
    path = CODE_FOLDER / Path(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def doors(room: str, text: str) -> Iterator[str]:
    """Yield the strings of a module that name a program of another room."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            top, dot, _ = node.value.partition(".")
            if dot and top in ROOMS and top != room and is_program(node.value):
                yield node.value


@pytest.mark.parametrize("name", [*NAMES, *(f"components.{s.component}" for s in STEPS.values())])
def test_each_program_is_there(name: str) -> None:
    assert is_program(name)


def test_no_other_module_names_a_program_of_another_room() -> None:
    files = [(room, file) for room in ROOMS for file in (CODE_FOLDER / room).rglob("*.py")]
    assert len(files) > 500
    found = {
        str(file.relative_to(CODE_FOLDER)): [*doors(room, file.read_text(encoding="utf-8"))]
        for room, file in files
        if file != PLACE
    }
    assert {file: names for file, names in found.items() if names} == {}
    assert set(doors("contract", PLACE.read_text(encoding="utf-8"))) == set(NAMES)


def test_a_program_of_a_fork_is_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(programs.WARM_PARENT, "/home/warm/parent.sock")
    forking = [sys.executable, "-m", "launching.processes.forked_program", "/home/warm/parent.sock"]
    command = programs.warm_command("serving.server")
    assert command == [*forking, sys.executable, "-m", "serving.server"]


def test_a_program_is_run_as_a_module() -> None:
    assert programs.program_command("serving.server") == [sys.executable, "-m", "serving.server"]
    assert programs.program_command("serving.server", "python3")[0] == "python3"
    assert programs.warm_command("serving.server") == programs.program_command("serving.server")
    assert programs.component_program("ingest") == "components.ingest"
