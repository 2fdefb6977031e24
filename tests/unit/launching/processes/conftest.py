"""What a step's process must do, it does as a fresh process and as a fork of a warm parent."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launching.processes.warm_start import own_warm_parent


@pytest.fixture(scope="session")
def bare_parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A warm parent that has imported nothing: it listens at once."""
    log = tmp_path_factory.mktemp("warm") / "warm.log"
    with own_warm_parent(dict(os.environ), log, ("contract.errors",)) as parent:
        yield parent


@pytest.fixture(params=["fresh", "warm"])
def warm_parent(request: pytest.FixtureRequest) -> Path | None:
    """None for a fresh process, else the socket of a warm parent."""
    return request.getfixturevalue("bare_parent") if request.param == "warm" else None
