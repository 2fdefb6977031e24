"""A run's report, for a notebook and for text."""

import io
from collections.abc import Iterable

from rich.console import Console, ConsoleRenderable, Group, RenderableType
from rich.jupyter import JupyterMixin

_WIDTH = 140


class Report(JupyterMixin):
    """What came of a run; a notebook shows it as tables, `str` returns the same as text."""

    def __init__(self, parts: Iterable[RenderableType]) -> None:
        self._parts = list(parts)

    def __rich__(self) -> ConsoleRenderable:
        return Group(*self._parts)

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=_WIDTH, highlight=False, soft_wrap=False).print(
            *self._parts, sep="\n"
        )
        return text.getvalue()

    __repr__ = __str__
