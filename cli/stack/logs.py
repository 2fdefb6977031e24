"""The ends of log files."""

from pathlib import Path

TAIL_LINES = 15
MOST_LINE_BYTES = 400


def tail(path: Path, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a log; an empty list if the file does not exist."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MOST_LINE_BYTES * lines))
        text = file.read().decode(errors="replace")
    return [line for line in text.splitlines() if line.strip()][-lines:]
