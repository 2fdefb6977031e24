"""What a step's process must do, it does as a fresh process and as a fork of a warm parent."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.places import CODE_FOLDER
from launching.processes.warm_start import own_warm_parent


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """What the processes run in; a warm parent serves only those that have its own."""
    return {**os.environ, "PYTHONPATH": str(CODE_FOLDER), "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="session")
def bare_parent(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A warm parent that has imported nothing: it listens at once."""
    log = tmp_path_factory.mktemp("warm") / "warm.log"
    with own_warm_parent(environment, log, ("contract.errors",)) as parent:
        yield parent


@pytest.fixture(params=["fresh", "warm"])
def warm_parent(request: pytest.FixtureRequest) -> Path | None:
    """None for a fresh process, else the socket of a warm parent."""
    return request.getfixturevalue("bare_parent") if request.param == "warm" else None
