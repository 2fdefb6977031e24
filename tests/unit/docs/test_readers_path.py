"""A reader who has only README and docs finds the file that decides something, in two hops.

The first hop is a link of README or of the site's first page, the second a line of the page behind
it that answers the question with a file.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.places import CODE_FOLDER

DOCS = CODE_FOLDER / "docs"
LINK = re.compile(r"\]\(([^)#\s]+\.md)\)")

# What is asked, the file that does it, and what a look into that file must show.
QUESTIONS = [
    (r"roll(ed)?[ -]back", "components/deploy/judging/judge.py", r"^def judge\("),
    (r"chief .*dies|death of a chief", "launching/restarts.py", r"^def decide\("),
    (r"bad row .*reason", "components/data/raw_rows.py", r"verdicts\.add\(.*missing"),
    (r"judged exactly once", "components/evaluate/protocol.py", r"^def advance\("),
    (r"model is good enough", "components/bless/verdict.py", r"margin"),
    (r"writer of traffic", "serving/agent/reconciler.py", r"\.apply\("),
    (r"gradients summed", "components/train/peers/collectives.py", r"^class \w*Ring"),
]


def pages_behind(start: Path) -> Iterator[Path]:
    for link in LINK.findall(start.read_text(encoding="utf-8")):
        yield (start.parent / link).resolve()


def answers(start: Path, question: str, file: str) -> list[str]:
    """Return the lines, on pages one link away, that answer a question with a file."""
    lines = (line for page in pages_behind(start) for line in page.read_text("utf-8").splitlines())
    return [line for line in lines if re.search(question, line) and f"`{file}`" in line]


@pytest.mark.parametrize("start", ["README.md", "docs/index.md"])
@pytest.mark.parametrize(("question", "file", "shown"), QUESTIONS, ids=lambda value: value)
def test_two_hops_lead_to_the_file_that_decides(
    start: str, question: str, file: str, shown: str
) -> None:
    assert answers(CODE_FOLDER / start, question, file)
    assert re.search(shown, (CODE_FOLDER / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_a_question_that_no_page_answers_is_seen() -> None:
    assert answers(CODE_FOLDER / "README.md", "roll-back", "contract/errors.py") == []
