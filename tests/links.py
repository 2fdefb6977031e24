"""Check the links of Markdown files: what a relative link or a path in code quotes names exists.

`python tests/links.py README.md docs/*.md` prints a line for each broken one and exits with 1.
Addresses on the web are not checked: that needs a network.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HISTORY = "CHANGELOG.md"  # names files that were renamed or removed since
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*<?([^\s>]+)", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
# `tests/links.py` and the like; names with placeholders or wildcards are not paths.
QUOTED_PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|yaml|txt|svg))`")


def broken_links(page: Path) -> Iterator[str]:
    """Yield a message for each link of a page whose file or heading does not exist."""
    text = FENCE.sub(_blank, page.read_text(encoding="utf-8"))
    for match in LINK.finditer(CODE.sub(_blank, text)):
        link = match[1] or match[2]
        if problem := _problem(page, link):
            yield f"{page}:{_line(text, match.start())}: {link}: {problem}"


def broken_paths(page: Path, root: Path = ROOT) -> Iterator[str]:
    """Yield a message for each path in code quotes that begins with a folder of the root."""
    text = FENCE.sub(_blank, page.read_text(encoding="utf-8"))
    for match in QUOTED_PATH.finditer(text):
        first = root / match[1].split("/")[0]
        if first.is_dir() and not (root / match[1]).exists():
            yield f"{page}:{_line(text, match.start())}: {match[1]}: no such file"


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    text = FENCE.sub(_blank, page.read_text(encoding="utf-8"))
    seen: Counter[str] = Counter()
    found = set()
    for heading in HEADING.findall(text):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def _problem(page: Path, link: str) -> str:
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return ""
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not target.exists():
        return "no such file"
    if anchor and (target.suffix != ".md" or anchor not in anchors(target)):
        return f"no such heading in {target}"
    return ""


def _blank(match: re.Match[str]) -> str:
    """Return as many lines, without text, so that later line numbers stay true."""
    return "\n" * match[0].count("\n")


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def main(pages: list[str]) -> int:
    """Print what is broken in the pages; return the exit code."""
    problems = [
        problem
        for page in map(Path, pages)
        for problem in (*broken_links(page), *(broken_paths(page) if page.name != HISTORY else ()))
    ]
    said = "\n".join(problems) or f"{len(pages)} pages: no broken links"
    sys.stdout.write(f"{said}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
