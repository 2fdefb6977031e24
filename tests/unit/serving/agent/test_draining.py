import pytest

from serving.agent.draining import Draining

SERVER = ("digits", 1)


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def draining(clock) -> Draining:
    return Draining(least_seconds=2.0, longest_seconds=10.0, clock=lambda: clock[0])


def look(draining: Draining, clock: list[float], now: float, active: int, idle=(SERVER,)) -> bool:
    clock[0] = now
    draining.update(idle, lambda: {SERVER: active})
    return draining.is_over(SERVER)


def test_a_server_ends_after_the_least_time_with_nothing_under_way(draining, clock) -> None:
    looks = [look(draining, clock, now, active=0) for now in (0.0, 1.9, 2.0)]
    assert looks == [False, False, True]


def test_requests_under_way_are_waited_for_but_not_for_ever(draining, clock) -> None:
    looks = [look(draining, clock, now, active=1) for now in (0.0, 2.0, 9.9, 10.0)]
    assert looks == [False, False, False, True]


def test_a_server_that_is_needed_again_begins_anew(draining, clock) -> None:
    assert [look(draining, clock, now, active=0) for now in (0.0, 2.0)] == [False, True]
    assert not look(draining, clock, 3.0, active=0, idle=())
    assert not look(draining, clock, 4.0, active=0)
    assert look(draining, clock, 6.0, active=0)


def test_the_data_plane_is_asked_only_if_it_matters(draining, clock) -> None:
    def unexpected() -> dict[tuple[str, int], int]:
        raise AssertionError("asked")

    draining.update((), unexpected)
    draining.update((SERVER,), unexpected)
    clock[0] = 10.0
    draining.update((SERVER,), unexpected)
    assert draining.is_over(SERVER)
