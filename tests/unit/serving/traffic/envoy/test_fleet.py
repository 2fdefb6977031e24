from serving.traffic.backend import VersionCounters
from serving.traffic.envoy.fleet import FleetCounters

ONE = ("digits", 1)


def seen(requests: int, errors: int = 0, *counts: int) -> dict:
    bounds = tuple(float(2**i) for i in range(len(counts)))
    return {ONE: VersionCounters(requests, errors, bounds, counts)}


def test_envoys_add_up() -> None:
    fleet = FleetCounters()
    fleet.update("a", 5, seen(10, 1, 4, 9))
    fleet.update("b", 9, seen(20, 2, 5, 19))
    assert fleet.total()[ONE] == VersionCounters(30, 3, (1.0, 2.0), (9, 28))


def test_one_that_has_counted_nothing_yet_takes_nothing_away() -> None:
    fleet = FleetCounters()
    fleet.update("a", 5, seen(10, 1, 4, 9))
    fleet.update("b", 1, seen(0))
    assert fleet.total()[ONE] == VersionCounters(10, 1, (1.0, 2.0), (4, 9))


def test_a_restarted_one_goes_on_where_it_was() -> None:
    fleet = FleetCounters()
    fleet.update("a", 50, seen(10, 1, 4, 9))
    fleet.update("a", 0, seen(3, 0, 1, 3))
    assert fleet.total()[ONE] == VersionCounters(13, 1, (1.0, 2.0), (5, 12))
    fleet.update("a", 1, {})
    assert fleet.total()[ONE].requests == 13


def test_what_seems_to_fall_stays() -> None:
    """Copies turned away are taken off a sum that was read a moment before they were added."""
    fleet = FleetCounters()
    fleet.update("a", 50, seen(10, 2))
    fleet.update("a", 51, seen(9, 1))
    assert fleet.total()[ONE] == VersionCounters(10, 2)


def test_a_version_that_comes_back_is_counted_on() -> None:
    fleet = FleetCounters()
    fleet.update("a", 50, {**seen(10, 1, 4, 9), ("digits", 2): VersionCounters(7)})
    fleet.begin([ONE])
    fleet.update("a", 60, {**seen(3, 1, 1, 3), ("digits", 2): VersionCounters(8)})
    assert fleet.total()[ONE] == VersionCounters(13, 2, (1.0, 2.0), (5, 12))
    assert fleet.total()["digits", 2].requests == 8


def test_client_errors_and_timed_answers_are_kept_over_a_restart() -> None:
    fleet = FleetCounters()
    before = VersionCounters(10, client_errors=4, latency_total=9, unreached=3)
    fleet.update("a", 50, {ONE: before})
    fleet.update("a", 0, {ONE: VersionCounters(2, client_errors=1, latency_total=2, unreached=1)})
    total = VersionCounters(12, client_errors=5, latency_total=11, unreached=4)
    assert fleet.total()[ONE] == total
