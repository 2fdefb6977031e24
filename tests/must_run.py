"""Where all that tests need is there (`SLIPWAY_MUST_RUN`), a skipped test is a failed one."""

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

_MUST_RUN = bool(os.environ.get("SLIPWAY_MUST_RUN"))  # read before tests hide it
_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)


def _judged(report: _Report) -> _Report:
    if _MUST_RUN and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"SLIPWAY_MUST_RUN is set, and this was not run: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _judged((yield))
