"""A server that hangs is killed soon, one that a busy machine silences not again and again."""

import pytest

from serving.agent.watchdog import Watchdog
from serving.traffic.backend import Version

DIGITS = ("digits", 2)


class Silent:
    """A HealthProber that knows a server which has been silent since a moment."""

    def __init__(self) -> None:
        self.now, self.since, self.is_started = 1000.0, 1000.0, True

    def silent_seconds(self, _version) -> float:
        return self.now - self.since

    def has_started(self, _version) -> bool:
        return self.is_started


@pytest.fixture
def health() -> Silent:
    return Silent()


@pytest.fixture
def watchdog(health) -> Watchdog[Version]:
    return Watchdog(health, lambda: health.now)


def seconds_until_killed(watchdog: Watchdog[Version], health: Silent) -> float:
    """Return for how long a server may be silent from now on."""
    health.since = health.now
    while not watchdog.hung_seconds(DIGITS):
        health.now += 0.5
    return health.now - health.since


def test_a_server_that_hangs_again_and_again_gets_more_and_more_time(watchdog, health) -> None:
    found = [seconds_until_killed(watchdog, health) for _ in range(7)]
    assert found == [8, 60, 120, 240, 480, 600, 600]


def test_one_that_has_not_started_gets_more_time(watchdog, health) -> None:
    health.is_started = False
    assert seconds_until_killed(watchdog, health) == 60


def test_after_an_hour_without_it_a_server_is_killed_soon_again(watchdog, health) -> None:
    assert seconds_until_killed(watchdog, health) == 8
    health.now += 3601
    assert seconds_until_killed(watchdog, health) == 8


def test_one_that_stays_silent_is_not_killed_in_each_pass(watchdog, health) -> None:
    seconds_until_killed(watchdog, health)
    health.now += 1
    assert watchdog.hung_seconds(DIGITS) == 0
