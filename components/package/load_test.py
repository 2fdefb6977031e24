"""The load test of a package: callers send rows as fast as they are answered.

What its server counts says where the time goes: in reading a request, in the queue, in the model,
in writing the answer.
"""

import re

from components.package.server_process import RunningServer
from components.quality.loadtest import Load, run_load
from contract.errors import SlipwayError
from contract.records.package import LoadReport
from contract.schema.serving import LoadtestConfig

LOAD_REPORT = "loadtest.json"
LOAD_PICTURE = "loadtest.png"

# A server told to fail a share of its requests may by chance fail more of a short load test.
_FAULT_SLACK = 2.0
_SPANS = re.compile(
    r'^slipway_span_seconds_(sum|count)\{[^}]*span="([a-z_]+)"\} (\S+)$', re.MULTILINE
)


def run_load_test(
    server: RunningServer, load: Load, settings: LoadtestConfig, fault_ratio: float = 0.0
) -> LoadReport:
    """Send a load and return what was seen, on both sides.

    Raises:
        SlipwayError: If too many requests fail or take too long; with the figure and its limit.
    """
    before = _spans(server)
    report = run_load(load)
    after = _spans(server)
    spans_ms = {
        name: 1e3 * (total - before.get(name, (0.0, 0.0))[0]) / answers
        for name, (total, count) in after.items()
        if (answers := count - before.get(name, (0.0, 0.0))[1]) > 0
    }
    report = report.model_copy(update={"spans_ms": spans_ms})
    _check(report, settings, fault_ratio)
    return report


def _spans(server: RunningServer) -> dict[str, tuple[float, float]]:
    """Return (seconds, answers) so far of each span that the server counts."""
    found: dict[str, dict[str, float]] = {}
    for kind, name, value in _SPANS.findall(server.metrics()):
        found.setdefault(name, {})[kind] = float(value)
    return {name: (one["sum"], one["count"]) for name, one in found.items()}


def _check(report: LoadReport, settings: LoadtestConfig, fault_ratio: float) -> None:
    allowed = settings.max_error_ratio + _FAULT_SLACK * fault_ratio
    ratio = report.errors / max(1, report.requests)
    if ratio > allowed:
        raise SlipwayError(
            f"load test: {report.errors} of {report.requests} requests failed, at most a share of "
            f"{allowed:g} may (package.loadtest.max_error_ratio); the first: {report.first_error}"
        )
    if report.p99_ms > settings.max_p99_ms:
        parts = (f"{name} {taken:.2g}" for name, taken in report.spans_ms.items())
        raise SlipwayError(
            f"load test: p99 is {report.p99_ms:.1f} ms with {settings.concurrency} callers, at "
            f"most {settings.max_p99_ms:g} ms is allowed (package.loadtest.max_p99_ms); mean "
            f"at the server, in ms: {', '.join(parts)}"
        )
