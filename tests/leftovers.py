"""Fails a test that leaves something in the checkout, where tests run.

Names that tools and their users keep there may appear. A test that runs in another process at the
same time may be the cause: each process notices what has appeared since it last looked.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

_OF_TOOLS = frozenset({"build", "__pycache__"})


def names_in(folder: Path) -> frozenset[str]:
    """Return the names in a folder that no test may add: all but those of tools."""
    names = {path.name for path in folder.iterdir()} - _OF_TOOLS
    return frozenset(n for n in names if not n.startswith(".") or n == ".slipway")


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    folder = request.config.rootpath
    before = names_in(folder)
    yield
    if left := sorted(names_in(folder) - before):
        pytest.fail(f"left in {folder}, by this test or one beside it: {', '.join(left)}")
