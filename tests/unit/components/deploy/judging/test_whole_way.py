import math

import numpy as np
import pytest

from components.deploy.judging.whole_way import (
    Rung,
    bad_ratio,
    can_tell,
    log_evidence_near_stable,
)


def test_clean_requests_speak_for_a_canary_by_what_a_bad_one_would_have_failed():
    # Poisson: a bad canary fails 1 % of 500, so no error is e^-5 as likely
    assert log_evidence_near_stable([Rung(0, 500, 0, 10_000)]) == pytest.approx(5.0)
    assert log_evidence_near_stable([]) == 0.0
    assert log_evidence_near_stable([Rung(0, 0, 0, 0)]) == 0.0


def test_equal_errors_are_compared_with_the_likeliest_bad_pair():
    # both 1 %: equal ratios, against 5 x stable with as many errors in all: (10 + 10) / (5,000 +
    # 1,000) = 1/300 for stable, 1/60 for the canary
    alike = 20 * math.log(0.01) - 20
    bad = 10 * math.log(1 / 60) + 10 * math.log(1 / 300) - 20
    found = log_evidence_near_stable([Rung(10, 1_000, 10, 1_000)])
    assert found == pytest.approx(alike - bad)


def test_one_percent_beside_a_tenth_of_it_speaks_against_a_canary():
    assert log_evidence_near_stable([Rung(10, 1_000, 1, 1_000)]) < -2.0
    assert log_evidence_near_stable([Rung(10, 1_000, 10, 10_000)]) < -2.0


@pytest.mark.parametrize(
    ("percent", "users", "is_enough"),
    [
        (50, 4_000, True),
        (50, 3_999, False),
        (25, 4_000, False),
        (75, 8_000, True),
        (95, 4_000, False),
        (95, 40_000, True),
    ],
)
def test_a_rung_tells_where_each_arm_has_2000_users(percent, users, is_enough):
    assert can_tell(percent, users) == is_enough
    assert can_tell(percent, 0)  # users do not keep their arm


def test_what_both_suffer_on_one_rung_is_nobodys_fault():
    calm, incident = Rung(0, 300, 0, 30_000), Rung(300, 1_000, 15, 50)
    assert log_evidence_near_stable([calm, incident]) > log_evidence_near_stable([calm])


@pytest.mark.parametrize(
    ("stable", "bad"), [(0.0, 0.01), (0.001, 0.01), (0.002, 0.01), (0.01, 0.05), (0.5, 0.99)]
)
def test_bad_is_five_times_stables_and_at_least_one_percent(stable, bad):
    assert bad_ratio(stable) == pytest.approx(bad)


def test_the_likeliest_bad_pair_is_found_as_a_search_finds_it():
    """A second implementation: over a grid of all bad pairs, their edges among them."""
    of_stable = np.concatenate([[1e-12], np.geomspace(1e-5, 1.0, 700)])[:, None]
    ratios = np.maximum(0.01, 5 * of_stable) * np.geomspace(1.0, 50.0, 200)
    random = np.random.default_rng(3)
    for _ in range(20):
        requests, stable_requests = random.integers(1, 3_000, 2)
        errors, stable_errors = random.binomial(
            [requests, stable_requests], random.uniform(0, 0.06, 2)
        )
        rung = Rung(int(errors), int(requests), int(stable_errors), int(stable_requests))
        likelihood = _log_poisson(errors, requests, ratios) + _log_poisson(
            stable_errors, stable_requests, of_stable
        )
        both = (errors + stable_errors) / (requests + stable_requests)
        alike = _log_poisson(errors, requests, np.array(both + 1e-300)) + _log_poisson(
            stable_errors, stable_requests, np.array(both + 1e-300)
        )
        expected = alike - likelihood.max()
        assert log_evidence_near_stable([rung]) == pytest.approx(expected, abs=0.05)


def _log_poisson(events: int, total: int, ratio: np.ndarray) -> np.ndarray:
    return events * np.log(ratio) - total * ratio


def test_a_canary_of_one_percent_beside_a_thousandth_seldom_ever_passes():
    random, passed = np.random.default_rng(4), 0
    for _ in range(400):
        errors = np.cumsum(random.poisson(0.01 * 50, 60))  # a look at each 50 of 3,000 requests
        stable = np.cumsum(random.poisson(0.001 * 500, 60))
        found = [
            log_evidence_near_stable([Rung(int(e), 50 * n, int(s), 500 * n)])
            for n, (e, s) in enumerate(zip(errors, stable, strict=True), start=1)
        ]
        passed += max(found) >= -math.log(0.01)
    assert passed <= 12  # 3 %; the goal is 5
