"""Scaling up again what somebody scales down: at once, and later and later if it does not last."""

from serving.agent.hosts.scale_repairs import ScaleRepairs

DIGITS = ("digits", 3)


def test_each_repair_that_did_not_last_a_minute_makes_the_next_wait_longer() -> None:
    now = [100.0]
    repairs = ScaleRepairs(lambda: now[0])
    waits = []
    for _ in range(9):
        waits.append(repairs.seconds_to_next(DIGITS))
        now[0] += waits[-1]
        assert repairs.seconds_to_next(DIGITS) == 0.0
        repairs.begin(DIGITS)
        now[0] += 2.0
    assert waits == [0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0]


def test_after_one_that_has_lasted_the_next_is_made_at_once() -> None:
    now = [100.0]
    repairs = ScaleRepairs(lambda: now[0])
    assert repairs.has_lasted(DIGITS), "there is none"
    repairs.begin(DIGITS)
    now[0] += 59.0
    assert not repairs.has_lasted(DIGITS)
    assert repairs.seconds_to_next(DIGITS) == 10.0
    repairs.has_its_replicas(DIGITS)  # whoever scaled it down has scaled it up
    now[0] += 1.0
    assert repairs.has_lasted(DIGITS)
    assert repairs.seconds_to_next(DIGITS) == 0.0


def test_why_the_next_waits_is_the_refusal_of_the_last() -> None:
    repairs = ScaleRepairs()
    repairs.begin(DIGITS)
    assert repairs.why_it_waits(DIGITS) == "the last repair did not last"
    repairs.refuse(DIGITS, "exceeded quota")
    assert repairs.why_it_waits(DIGITS) == "exceeded quota"
    repairs.begin(DIGITS)
    assert repairs.why_it_waits(DIGITS) == "the last repair did not last"


def test_a_version_whose_server_was_removed_begins_again() -> None:
    repairs = ScaleRepairs(lambda: 100.0)
    repairs.begin(DIGITS)
    repairs.forget(DIGITS)
    assert repairs.seconds_to_next(DIGITS) == 0.0
