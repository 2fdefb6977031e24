import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.deploy.judging.evidence import Counts, growth
from contract.records.traffic import ArmObservation


def seen(requests: int, errors: int = 0, **more: object) -> ArmObservation:
    return ArmObservation.model_validate(
        {"version": 2, "is_ready": True, "requests": requests, "errors": errors, **more}
    )


def test_growth_is_the_difference():
    grown = growth(seen(100, 3, compared=40), seen(150, 5, compared=60, disagreements=2))
    assert grown == Counts(requests=50, errors=2, compared=20, disagreements=2)


def test_counters_that_fell_begin_again():
    assert growth(seen(100, 3), seen(20, 1)) == Counts(requests=20, errors=1)
    assert growth(seen(100, 3), seen(120, 1)) == Counts(requests=120, errors=1)


def test_pairs_that_fell_do_not_touch_the_requests():
    grown = growth(seen(100, compared=40), seen(150, compared=10))
    assert grown == Counts(requests=50, compared=10)


def test_what_a_version_refuses_and_stable_answers_is_an_error():
    before = seen(100, 3, client_errors=20, compared=90, refused_alone=4)
    now = seen(150, 5, client_errors=31, compared=130, refused_alone=10)
    grown = growth(before, now)
    assert grown == Counts(50, 2 + 6, client_errors=11, compared=40, refused_alone=6)
    assert (grown + grown).since(grown) == grown
    # Pairs and requests are counted apart, and either may begin again.
    assert growth(before, seen(150, 3, client_errors=20, refused_alone=1)).errors == 1
    fewer = seen(10, 0, compared=90, refused_alone=5)
    assert growth(before, fewer) == Counts(10, 1, refused_alone=1)


def test_what_callers_left_is_an_error_and_what_found_no_host_is_none():
    grown = growth(seen(100, 3, abandoned=4, unreached=5), seen(150, 5, abandoned=10, unreached=7))
    assert grown == Counts(50 + 6, 2 + 6, abandoned=6, unreached=2)
    assert (grown + grown).since(grown) == grown


def test_a_version_not_seen_has_grown_by_nothing():
    assert growth(seen(100), None) == Counts()
    assert growth(None, seen(7)) == Counts(requests=7)


def test_other_latency_bounds_begin_again():
    before = seen(10, latency_bounds_ms=(1.0,), latency_counts=(10,))
    now = seen(12, latency_bounds_ms=(1.0, 2.0), latency_counts=(1, 2))
    assert growth(before, now).latency_counts == (1, 2)


def test_a_quantile_is_linear_within_its_bucket():
    # 90 of 100 within 10 ms, all within 20 ms: rank 95 lies half way through the second bucket
    counts = Counts(requests=100, latency_bounds_ms=(10.0, 20.0), latency_counts=(90, 100))
    assert counts.latency_ms(0.95) == pytest.approx(15.0)
    assert counts.latency_ms(0.45) == pytest.approx(5.0)
    assert Counts().latency_ms(0.95) == 0.0


def test_slower_than_is_linear_within_the_bucket_of_the_limit():
    counts = Counts(latency_bounds_ms=(10.0, 20.0, 40.0), latency_counts=(60, 90, 100))
    assert counts.slower_than(10.0) == 40
    assert counts.slower_than(15.0) == pytest.approx(25.0)
    assert counts.slower_than(50.0) == 0


def test_what_is_above_the_last_bound_is_timed_and_slow():
    counts = Counts(latency_bounds_ms=(10.0, 20.0), latency_counts=(60, 90), latency_total=100)
    assert counts.timed == 100
    assert counts.slower_than(20.0) == 10
    assert counts.slower_than(1_000.0) == 10
    assert counts.latency_ms(0.95) == 20.0


def test_counts_since_an_earlier_state_are_the_difference():
    before = Counts(requests=5, errors=1, latency_bounds_ms=(1.0, 2.0), latency_counts=(1, 2))
    more = Counts(
        requests=3,
        client_errors=2,
        active=4,
        latency_bounds_ms=(1.0, 2.0),
        latency_counts=(2, 3),
        latency_total=4,
    )
    assert (before + more).since(before) == more


def test_what_is_under_way_is_not_added_up():
    assert (Counts(active=3) + Counts(active=2)).active == 2
    assert growth(seen(10, active=3), seen(12, active=5)).active == 5


def test_counts_add_up_with_their_histograms():
    one = Counts(requests=2, errors=1, latency_bounds_ms=(1.0, 2.0), latency_counts=(1, 2))
    assert (one + one).latency_counts == (2, 4)
    assert (Counts() + one) == one
    assert (one + Counts()) == one


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=30))
def test_no_request_is_lost_over_resets_that_are_noticed(looks):
    """Counted = all requests, where each reset is followed by a look before it is overtaken."""
    raw, total, counts, last = 0, 0, Counts(), seen(0)
    for new, is_reset in looks:
        if is_reset and new < raw:
            raw = 0
        raw += new
        total += new
        counts += growth(last, seen(raw))
        last = seen(raw)
    assert counts.requests == total
