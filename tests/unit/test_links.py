"""What `make lint` finds of broken links in Markdown pages."""

import subprocess
import sys
from pathlib import Path

import pytest
from links import anchors, broken_links, broken_paths

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "other.md").write_text("# One\n\n## Two words, `code`!\n\n## One\n")
    return tmp_path / "page.md"


@pytest.mark.parametrize(
    "text",
    [
        "[a](other.md)",
        "[a](other.md#two-words-code)",
        "[a](other.md#one-1)",
        "[a](#here)",
        "![a](other.md 'title')",
        "[a](https://example.org/none.md)",
        "`[a](none.md)`",
        "```\n[a](none.md)\n```",
        "[a]: other.md",
    ],
)
def test_a_good_link_is_no_problem(page: Path, text: str) -> None:
    page.write_text(f"# Here\n\n{text}\n")
    assert list(broken_links(page)) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a](none.md)", "none.md: no such file"),
        ("![a](none.svg)", "none.svg: no such file"),
        ("[a](other.md#three)", "other.md#three: no such heading in"),
        ("[a](other.md#one-2)", "other.md#one-2: no such heading in"),
        ("[a](#there)", "#there: no such heading in"),
        ("[a]: none.md", "none.md: no such file"),
        ("[a](other.md) and [b](none.md)", "none.md: no such file"),
    ],
)
def test_a_broken_link_is_named_with_its_line(page: Path, text: str, problem: str) -> None:
    page.write_text(f"# Here\n\n```\ncode\n```\n{text}\n")
    (found,) = broken_links(page)
    assert found.startswith(f"{page}:6: {problem}")


def test_anchors_are_those_of_github(page: Path) -> None:
    assert anchors(page.parent / "other.md") == {"one", "two-words-code", "one-1"}


def test_a_path_in_code_quotes_has_to_exist(page: Path) -> None:
    page.write_text("`tests/links.py`, `tests/none.py`, `elsewhere/none.py`, `tests/<name>.py`\n")
    assert list(broken_paths(page)) == [f"{page}:1: tests/none.py: no such file"]


@pytest.mark.parametrize(("text", "exit_code"), [("[a](other.md)", 0), ("[a](none.md)", 1)])
def test_the_exit_code_says_whether_all_links_are_good(
    page: Path, text: str, exit_code: int
) -> None:
    page.write_text(text)
    done = subprocess.run(
        [sys.executable, TESTS / "links.py", page], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "none.md: no such file" in done.stdout) == (exit_code, bool(exit_code))


@pytest.mark.parametrize(("name", "exit_code"), [("page.md", 1), ("CHANGELOG.md", 0)])
def test_a_changelog_may_name_files_that_are_gone(
    tmp_path: Path, name: str, exit_code: int
) -> None:
    (tmp_path / name).write_text("`tests/none.py`\n")
    done = subprocess.run([sys.executable, TESTS / "links.py", tmp_path / name], check=False)
    assert done.returncode == exit_code
