"""One real Airflow for all end-to-end tests of a session."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package; their support is found so

from airflow_stack import AirflowStack, running_airflow

STARTED = pytest.StashKey[AirflowStack]()


@pytest.fixture(scope="session")
def airflow_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, warm_parent: Path
) -> Iterator[AirflowStack]:
    """Start Airflow once for all tests of the session; each test adds its own pipeline."""
    with running_airflow(tmp_path_factory.mktemp("airflow-stack"), warm_parent) as stack:
        request.session.stash[STARTED] = stack
        yield stack


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Stop Airflow after the last test that needs it: idle, it takes from what runs beside."""
    stack = item.session.stash.get(STARTED, None)
    items = item.session.items
    rest = items[items.index(item) + 1 :]
    if stack is not None and not any(needs_airflow(one) for one in rest):
        stack.stop()


def needs_airflow(item: pytest.Item) -> bool:
    """Tell whether a test uses the shared Airflow."""
    return "airflow_stack" in getattr(item, "fixturenames", ())
