"""Tests marked `thorough`: slow, exhaustive ones that need not run at every change.

`--thorough all` (the default) runs them as any other, `none` leaves them out, and `reached` runs
those that what has changed since `--since` can reach (`reach.py`), all of them if that is unknown.
"""

import pytest
from reach import changed_files, is_reached


def pytest_addoption(parser: pytest.Parser) -> None:
    choices = ("all", "none", "reached")
    parser.addoption("--thorough", choices=choices, default="all", help="which of these tests run")
    parser.addoption("--since", default="origin/main", help="what --thorough reached compares with")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what need not run, and say so at the end."""
    wanted = config.getoption("--thorough")
    marked = [item for item in items if item.get_closest_marker("thorough")]
    if wanted == "all" or not marked:
        return
    changed = set[str]()
    if wanted == "reached":
        found = changed_files(config.rootpath, config.getoption("--since"))
        if found is None:
            return
        changed = found
    dropped = [item for item in marked if not _is_reached(config, item, changed)]
    items[:] = [item for item in items if item not in dropped]
    config.hook.pytest_deselected(items=dropped)


def _is_reached(config: pytest.Config, item: pytest.Item, changed: set[str]) -> bool:
    return is_reached(config.rootpath, str(item.path.relative_to(config.rootpath)), changed)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Let a run of nothing but thorough tests be a good one where a change reaches none."""
    is_reached_only = session.config.getoption("--thorough") == "reached"
    if is_reached_only and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK
