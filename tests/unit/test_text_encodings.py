"""Text is read and written in an encoding that the code names, not in that of the machine."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.places import CODE_FOLDER

ROOMS = (
    "cli",
    "components",
    "contract",
    "serving",
    "launching",
    "operators",
    "dags",
    "docker",
    "slipway",
)
TEXT_MODES = frozenset({"r", "w", "a", "x", "r+", "w+", "a+"})


def lacking(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of calls that read or write text and name no encoding."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        if "encoding" not in keywords and is_of_text(call, keywords):
            yield call.lineno


def is_of_text(call: ast.Call, keywords: dict[str | None, ast.expr]) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "read_text":
        return not call.args
    if name == "write_text":
        return len(call.args) == 1
    if name == "open" and isinstance(call.func, ast.Name):
        return len(call.args) < 2 or has_text_mode(call.args[1])
    if name in ("open", "fdopen"):
        return any(map(has_text_mode, call.args))
    text = keywords.get("text")
    return isinstance(text, ast.Constant) and text.value is True


def has_text_mode(argument: ast.expr) -> bool:
    return isinstance(argument, ast.Constant) and argument.value in TEXT_MODES


@pytest.mark.parametrize("room", ROOMS)
def test_every_text_file_is_opened_with_an_encoding(room: str) -> None:
    files = sorted((CODE_FOLDER / room).rglob("*.py"))
    found = [
        f"{file.relative_to(CODE_FOLDER)}:{line}"
        for file in files
        for line in lacking(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text()",
        "path.write_text('x')",
        "path.open('w')",
        "open(path)",
        "open(path, 'a')",
        "os.fdopen(number, 'w')",
        "subprocess.run(['ls'], text=True)",
    ],
)
def test_what_lacks_an_encoding_is_found(call: str) -> None:
    assert list(lacking(ast.parse(call))) == [1]


def test_what_names_one_or_reads_bytes_is_not(tmp_path: Path) -> None:
    calls = (
        "path.read_text(encoding='utf-8'); path.read_text('utf-8'); path.write_text('x', 'utf-8')\n"
        "path.open('rb'); open(path, 'rb'); path.open('w', encoding='utf-8'); engine.open()"
    )
    assert list(lacking(ast.parse(calls))) == []
