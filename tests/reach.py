"""Which test files a change can reach: by what they import, and by what they start by name.

A test file reaches the modules that it imports, what those import, and so on; a module of ours that
a string names (`"launching.processes.guard"`); and the `conftest.py` files above it. Components are
started by a name that is put together in `contract.command`: whoever reaches that reaches all of
`components`; readers of sources are imported by the name of their kind. Any other changed file but
a page of docs can have any effect: it reaches every test.
"""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

# Not slipway: MLflow's tags, such as `slipway.version`, look like its modules.
PACKAGES = ("contract", "components", "serving", "launching", "operators", "dags", "cli")
STARTED_BY = {  # by a file, the package from which it starts or imports by a name
    "contract/command.py": "components",
    "operators/label_loop.py": "cli",
    "components/ingest/sources/__init__.py": "components/ingest/sources",
}
NO_EFFECT = re.compile(
    r"docs/.*\.md|\.github/.*|[A-Z]+\.md|LICENSE|tests/(unit|benchmarks|cluster|browser)/.*"
)
NAMED = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")


def changed_files(root: Path, base: str) -> set[str] | None:
    """Return what differs from the merge base with `base`, also uncommitted; None if unknown.

    It is unknown, too, where nothing differs: then `base` says nothing of what was changed last.
    """
    fork = _git(root, "merge-base", base, "HEAD")
    if fork is None:
        return None
    found = [_git(root, "diff", "--name-only", "--no-renames", fork.strip())]
    found.append(_git(root, "ls-files", "--others", "--exclude-standard"))
    if None in found:
        return None
    return {line for text in found if text for line in text.splitlines()} or None


def is_reached(root: Path, test: str, changed: Iterable[str]) -> bool:
    """Return whether one of the changed files can have an effect on a test file.

    Args:
        root: The checkout.
        test: The test file's path below `root`.
        changed: Paths below `root`.
    """
    reached = files_of(root, test)
    return any(file in reached or not _is_known(file) for file in changed)


@cache
def files_of(root: Path, test: str) -> frozenset[str]:
    """Return the paths of all files that a test file reaches, itself among them."""
    todo, found = _existing(root, (test, *_conftests(test))), set[str]()
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            todo += _next(root, file)
    return frozenset(found)


@cache
def _next(root: Path, file: str) -> list[str]:
    """Return the files that a file names; most tests reach the same few hundred."""
    package = STARTED_BY.get(file)
    started = (root / package).rglob("*.py") if package is not None else ()
    modules = _named_modules((root / file).read_text(), file)
    places = (place for module in modules for place in _files_of_module(module, file))
    return [*_existing(root, set(places)), *(str(path.relative_to(root)) for path in started)]


def _existing(root: Path, files: Iterable[str]) -> list[str]:
    return [file for file in files if (root / file).is_file()]


def _is_known(file: str) -> bool:
    """Return whether a file has no effect, or only on those that reach it."""
    top, *below = file.split("/")
    # pytest reads its plugins, which lie in the folder of tests itself, whatever it runs
    is_ours = file.endswith(".py") and (top in PACKAGES or (top == "tests" and len(below) > 1))
    return is_ours or NO_EFFECT.fullmatch(file) is not None


def _conftests(test: str) -> list[str]:
    return [f"{folder}/conftest.py" for folder in Path(test).parents if str(folder) != "."]


def _named_modules(code: str, file: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(Path(file).parts[: -node.level]) if node.level else ""
            module = ".".join(part for part in (start, node.module or "") if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from NAMED.findall(node.value)


def _files_of_module(module: str, importer: str) -> Iterator[str]:
    """Yield where a module may lie: with its packages, and beside the test that imports it."""
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        path = "/".join(parts[:end])
        yield from (f"{path}.py", f"{path}/__init__.py")
    yield f"{'/'.join(parts)}/__main__.py"
    if importer.startswith("tests/"):
        yield from (f"{folder}/{parts[0]}.py" for folder in (Path(importer).parent, "tests"))


def _git(root: Path, *words: str) -> str | None:
    command = ["git", "-C", str(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None
