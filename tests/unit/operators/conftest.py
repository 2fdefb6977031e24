"""Airflow writes its settings where AIRFLOW_HOME says when it is imported: not in a real home."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="slipway-airflow-"))

# tests are no package; their support is found so
sys.path.insert(0, str(Path(__file__).parent))

from stub_api import StubApi


@pytest.fixture
def api(tmp_path: Path) -> Iterator[StubApi]:
    """An API server that has nothing, until it is told what to answer."""
    with StubApi(tmp_path) as started:
        yield started
