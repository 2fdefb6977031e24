"""The lines that a component logs: their level, and which replica said them."""

import logging
import re
from collections import deque

_LOG_LINE = re.compile(r"^(\S+ \S+) (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)$")
_KEPT_LINES = 20


class Complaints:
    """The latest lines that a component logged as errors; of one that logged none, the latest."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=_KEPT_LINES)
        self._all: deque[str] = deque(maxlen=_KEPT_LINES)

    def note(self, level: int, text: str) -> None:
        self._all.append(text)
        if level >= logging.ERROR:
            self._errors.append(text)

    def __str__(self) -> str:
        return "\n".join(self._errors or self._all)


def parsed(line: str) -> tuple[int, str]:
    """Split a component's log line into level and text; other output counts as information."""
    match = _LOG_LINE.match(line)
    if match is None:
        return logging.INFO, line
    return logging.getLevelNamesMapping()[match[2]], match[3]


def prefixed(line: str, name: str) -> str:
    """Put a name before a line's text, where `parsed` still finds the level."""
    match = _LOG_LINE.match(line)
    return f"{match[1]} {match[2]} [{name}] {match[3]}" if match else f"[{name}] {line}"
