"""What each component has imported before its first useful work: named libraries, counted modules.

Modules rather than seconds: the same on every machine. A component's imports are read from its
`__main__.py` and from the module named like its folder, those inside functions too, and are then
carried out in a fresh process. Who exceeds a budget either imports later, or states here what the
component now needs at its start.
"""

import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.places import CODE_FOLDER
from contract.steps import COMPONENTS, STEPS, steps_of

LARGE = frozenset(
    {"apache_beam", "keras", "matplotlib", "mlflow", "networkx", "onnxruntime", "openvino"}
    | {"pandas", "pyarrow", "sklearn", "tensorflow", "tensorflow_transform", "tf_keras"}
)
LIST = "print('modules:' + json.dumps(sorted(n for n, m in sys.modules.items() if m is not None)))"


@dataclass(frozen=True)
class Budget:
    """The large libraries that are loaded, and how many modules at most (some 5 % are left)."""

    libraries: str
    modules: int


BUDGETS = {
    "ingest": Budget("apache_beam pandas pyarrow", 2_650),
    "validate": Budget("matplotlib pyarrow", 750),
    "transform": Budget(
        "apache_beam keras pandas pyarrow tensorflow tensorflow_transform tf_keras", 5_750
    ),
    "train": Budget("keras pyarrow tensorflow", 3_450),
    "evaluate": Budget("keras pyarrow tensorflow", 3_450),
    "bless": Budget("keras matplotlib pyarrow tensorflow", 3_650),
    "optimize": Budget("keras matplotlib networkx pyarrow tensorflow", 3_900),
    "package": Budget("keras matplotlib pyarrow tensorflow", 3_890),
    "deploy": Budget("", 770),
}


def test_every_component_has_a_budget() -> None:
    assert set(BUDGETS) == set(COMPONENTS)


@pytest.mark.parametrize("component", BUDGETS)
def test_a_component_keeps_to_its_budget_of_imports(component: str) -> None:
    modules = [f"components.{component}.__main__", *(STEPS[s].module for s in steps_of(component))]
    files = [CODE_FOLDER / f"{module.replace('.', '/')}.py" for module in modules]
    loaded = modules_after([line for file in files for line in imports_of(file)])
    packages = Counter(name.partition(".")[0] for name in loaded)
    budget = BUDGETS[component]
    assert set(packages) & LARGE == set(budget.libraries.split())
    assert len(loaded) <= budget.modules, f"most of them: {packages.most_common(12)}"


def test_a_component_starts_with_none_of_them() -> None:
    for component in BUDGETS:
        loaded = modules_after([f"import components.{component}.__main__"])
        assert not {"tensorflow", "apache_beam", "matplotlib", "mlflow"} & loaded, component


def imports_of(file: Path) -> Iterator[str]:
    """Yield a file's import statements, without those for type checkers."""
    tree = ast.parse(file.read_text())
    tree.body = [node for node in tree.body if not _is_for_type_checkers(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield ast.unparse(node)


def _is_for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def modules_after(lines: list[str]) -> set[str]:
    """Return the modules that a fresh process has after the statements."""
    code = "\n".join([*lines, "import json, sys", LIST])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.rpartition("modules:")[2]))


def test_ingest_and_validate_do_their_whole_work_without_tensorflow_and_beam(
    tmp_path: Path,
) -> None:
    lines = ["from components.runs.step import run_step\nfrom contract.command import StepCommand"]
    for step in ("ingest", "validate"):
        command = f"StepCommand({step!r}, 'digits', 'a', {str(tmp_path)!r})"
        lines.append(f"from components.{step}.__main__ import work\nrun_step({command}, work)")
    loaded = modules_after(lines)
    assert "components.data.tfrecord_shards" in loaded
    assert not {"apache_beam", "keras", "tensorflow"} & loaded
