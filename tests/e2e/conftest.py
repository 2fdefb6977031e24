"""One real Airflow for all end-to-end tests of a session."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package; their support is found so

from airflow_stack import AirflowStack, running_airflow


@pytest.fixture(scope="session")
def airflow_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    """Start Airflow once for all tests of the session; each test adds its own pipeline."""
    with running_airflow(tmp_path_factory.mktemp("airflow-stack")) as stack:
        yield stack
