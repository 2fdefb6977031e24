from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from rollouts import NOW, a_rollout

from cli.rollouts.view import view
from contract.records.traffic import Hold

HOLD = Hold(
    version=2,
    weight_percent=5,
    author="ada",
    reason="[red]lunch",
    since=datetime(2026, 1, 31, 11, tzinfo=UTC),
)


def shown(rollout, now=NOW) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(view(rollout, now))
    return captured.get()


def row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(name))
    return line.split()


def test_weights_counts_and_every_test_with_its_bounds_are_shown() -> None:
    text = shown(a_rollout())
    way = "shadow, 1 %, 5 %, 25 %, 50 %, 95 %"
    assert f"digits: version 2 against version 1 at 5 % (way: {way}): running" in text
    assert row(text, "canary") == ["canary", "2", "5", "%", "83", "2", "0", "0", "8.1", "ms"]
    assert row(text, "stable") == ["stable", "1", "95", "%", "1,577", "0", "0", "0", "7.6", "ms"]
    errors = ["errors", "83", "1,577", "21.5", "172.4", "1.24", "125", "112", "requests"]
    assert row(text, "errors") == errors
    assert row(text, "p99") == ["p99", "63", "1,500", "1", "3,333"]
    assert row(text, "time") == ["time", "41", "s", "60", "s", "open"]
    assert "time to go: this rung about 56 s, the way about 254 s" in text


def test_a_pause_is_shown_with_who_and_why() -> None:
    text = shown(a_rollout(state="paused", hold=HOLD))
    assert "paused by ada since 2026-01-31" in text
    assert "[red]lunch; nothing passes, failing evidence still rolls back" in text
    assert "slipway rollout digits --resume" in text
    assert "none while it is paused (3,420 s left after that)" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seconds_to_decision": None, "seconds_to_end": None}, "unknown (no traffic"),
        ({"seconds_to_end": None}, "this rung about 56 s, at the rate so far"),
        ({"seconds_to_end": 3421.0}, "but 3,420 s are left: expect 'inconclusive'"),
        ({"seconds_to_end": 3420.0}, "the way about 3,420 s, at the rate so far"),
    ],
)
def test_the_time_to_a_decision_promises_nothing_that_nobody_knows(changes, words) -> None:
    assert words in a_rollout(**changes).time_to_go


def test_a_controller_that_no_longer_looks_is_told_unless_the_trial_is_over() -> None:
    later = NOW + timedelta(seconds=16)
    assert "its controller has not looked for 16 s" in shown(a_rollout(), later)
    assert "has not looked" not in shown(a_rollout(), NOW + timedelta(seconds=15))
    assert "has not looked" not in shown(a_rollout(state="passed"), later)


def test_one_that_is_over_has_no_time_to_go() -> None:
    assert "time to" not in shown(a_rollout(state="rolled back"))
