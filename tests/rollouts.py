"""A rollout as its controller writes it, for the tests of all who show it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from contract.records.rollout import ArmCounts, Rollout, RolloutEvent, RolloutTest

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def a_rollout(**changes: Any) -> Rollout:
    """Version 2 on the 5 % rung beside version 1, three minutes after its beginning."""
    rollout = Rollout(
        pipeline="digits",
        author="run r2",
        version=2,
        champion=1,
        state="running",
        phase="5 %",
        weights_percent=(0, 1, 5, 25, 50, 95),
        canary=ArmCounts(version=2, weight_percent=5, requests=83, errors=2, timed=63, p95_ms=8.1),
        stable=ArmCounts(version=1, weight_percent=95, requests=1577, timed=1500, p95_ms=7.6),
        tests=(
            RolloutTest(
                name="errors",
                canary_events=83,
                stable_events=1577,
                against=21.5,
                fails_at=172.4,
                in_favour=1.24,
                passes_at=125.0,
                missing=112,
                has_agreed=False,
                words="2 errors in 83 requests (2.4%; 1.0% allowed, stable 0.0% of 1,577)",
            ),
            RolloutTest(
                name="p99", canary_events=63, stable_events=1500, against=1.0, fails_at=3333.0
            ),
            RolloutTest(
                name="time",
                unit="seconds",
                in_favour=41.0,
                passes_at=60.0,
                has_agreed=False,
                words="41 of at least 60 s",
            ),
        ),
        reason="2 errors in 83 requests",
        outlook="at 40 requests a second the way from 1 % on needs about 600 of 3,000 s",
        seconds=41.0,
        spent_seconds=180.0,
        timeout_seconds=3600.0,
        seconds_to_decision=56.0,
        seconds_to_end=254.0,
        events=(
            _event(180, "entered", "shadow", 0),
            _event(120, "passed", "shadow", 0, "no error in 210 requests"),
            _event(119, "entered", "1 %", 1),
            _event(42, "passed", "1 %", 1, "0 errors in 118 requests"),
            _event(41, "entered", "5 %", 5),
        ),
        looked_at=NOW,
    )
    return rollout.model_copy(update=changes)


def _event(ago: int, kind: Any, phase: str, percent: int, words: str = "") -> RolloutEvent:
    at = NOW - timedelta(seconds=ago)
    return RolloutEvent(at=at, kind=kind, phase=phase, weight_percent=percent, words=words)
