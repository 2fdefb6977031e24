import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from components.deploy.sequential import (
    Errors,
    Limits,
    log_evidence_above,
    log_likelihood_ratio,
    log_share_ratio,
)

ONE_TO_FIVE = Limits(0.01, 0.05)


def test_the_ratio_is_what_hand_arithmetic_gives():
    # 3 errors of 10: 3 ln(0.05/0.01) + 7 ln(0.95/0.99)
    by_hand = 3 * math.log(5) + 7 * math.log(95 / 99)
    assert log_likelihood_ratio(3, 10, ONE_TO_FIVE) == pytest.approx(by_hand)


def test_bounds_are_walds():
    errors = Errors(alpha=0.05, beta=0.1)
    assert errors.refuse_at == pytest.approx(math.log(0.9 / 0.05))
    assert errors.accept_at == pytest.approx(math.log(0.1 / 0.95))


def test_no_events_are_no_evidence():
    assert log_likelihood_ratio(0, 0, ONE_TO_FIVE) == 0.0
    assert log_evidence_above(0, 0, 0.3) == 0.0


def test_with_no_error_allowed_one_error_decides():
    assert log_likelihood_ratio(1, 10, Limits(0.0, 0.05)) > Errors(0.01, 0.01).refuse_at


def test_a_refused_ratio_of_one_accepts_after_one_good_answer():
    assert log_likelihood_ratio(0, 1, Limits(0.5, 1.0)) < Errors(0.01, 0.01).accept_at


def test_raised_limits_keep_their_gap_and_stay_ratios():
    unchanged = ONE_TO_FIVE.raised_to(0.005)
    assert (unchanged.allowed, unchanged.refused) == pytest.approx((0.01, 0.05))
    raised = ONE_TO_FIVE.raised_to(0.2)
    assert (raised.allowed, raised.refused) == pytest.approx((0.2, 0.24))
    raised = ONE_TO_FIVE.raised_to(1.0)
    assert (raised.allowed, raised.refused) == pytest.approx((0.96, 1.0))


@pytest.mark.parametrize(("bad", "total", "limit"), [(3, 10, 0.2), (0, 5, 0.5), (40, 50, 0.6)])
def test_evidence_above_equals_its_integral(bad, total, limit):
    def likelihood(p: float) -> float:
        return p**bad * (1 - p) ** (total - bad)

    area, _ = integrate.quad(likelihood, limit, 1.0, epsabs=0.0)
    expected = math.log(area / (1 - limit) / likelihood(limit))
    assert log_evidence_above(bad, total, limit) == pytest.approx(expected, rel=1e-6)


def test_share_ratio_is_what_hand_arithmetic_gives():
    # 1 request of 4 is ours: share 0.25; twice as bad makes it 0.5 / 1.25 = 0.4
    by_hand = 5 * math.log(0.4 / 0.25) + 3 * math.log(0.6 / 0.75)
    assert log_share_ratio(5, 100, 3, 300, 2.0) == pytest.approx(by_hand)
    assert log_share_ratio(5, 100, 0, 0, 2.0) == 0.0


def test_evidence_at_the_ends_of_the_range():
    assert log_evidence_above(1, 10, 0.0) == math.inf
    assert log_evidence_above(0, 10, 0.0) == 0.0
    assert log_evidence_above(10, 10, 1.0) == 0.0
    assert log_evidence_above(0, 100_000, 0.9) == -math.inf


def test_evidence_seldom_ever_speaks_against_a_ratio_at_the_limit():
    random = np.random.default_rng(3)
    trials, alpha, wrong = 400, 0.05, 0
    for _ in range(trials):
        bad = np.cumsum(random.random(600) < 0.3)
        looks = range(1, 600, 3)
        wrong += any(log_evidence_above(int(bad[n - 1]), n, 0.3) >= -math.log(alpha) for n in looks)
    # 20 expected at most; 35 is more than three standard deviations above that
    assert wrong <= 35


@given(st.integers(0, 300), st.integers(1, 300), st.floats(0.01, 0.9), st.floats(0.01, 0.09))
def test_more_bad_events_are_never_less_evidence(bad, good, allowed, gap):
    limits, total = Limits(allowed, allowed + gap), bad + good
    assert log_likelihood_ratio(bad + 1, total, limits) > log_likelihood_ratio(bad, total, limits)
    assert log_evidence_above(bad + 1, total, allowed) >= log_evidence_above(bad, total, allowed)


@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_raising_the_limits_never_makes_a_case_worse(bad, good, one, other):
    low, high = sorted((one, other))
    lenient = log_likelihood_ratio(bad, bad + good, ONE_TO_FIVE.raised_to(high))
    strict = log_likelihood_ratio(bad, bad + good, ONE_TO_FIVE.raised_to(low))
    assert lenient <= strict + 1e-9
