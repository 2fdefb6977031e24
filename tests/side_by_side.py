"""Which tests share a worker process where several work (`--dist loadfile`).

The tests of a file do. Those of the files in `SHARED` do as well, by the start of their names: each
runs a whole Airflow, and two of them at once are slower than one after the other.
"""

import pytest

SHARED = ("tests/e2e/",)


def unit_of(test: str) -> str:
    """Return the unit of work that a test belongs to, by its id."""
    file = test.partition("::")[0]
    return next((start for start in SHARED if file.startswith(start)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Return the scheduler for `--dist loadfile`; xdist's own for other ways to distribute."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    return Scheduler(config, log)
