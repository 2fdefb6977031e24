import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from components.deploy.judging.sequential import (
    BETS,
    EVENLY,
    MOSTLY_FIVEFOLD,
    Limits,
    after_arms,
    after_bet,
    after_excess,
    after_margin,
    expected_events,
    log_evidence_above,
    log_evidence_below,
    log_likelihood_ratio,
    paid_in,
    surely_above,
)

ONE_TO_FIVE = Limits(0.01, 0.05)


def test_the_ratio_is_what_hand_arithmetic_gives():
    # 3 errors of 10: 3 ln(0.05/0.01) + 7 ln(0.95/0.99)
    by_hand = 3 * math.log(5) + 7 * math.log(95 / 99)
    assert log_likelihood_ratio(3, 10, ONE_TO_FIVE) == pytest.approx(by_hand)


def test_no_events_are_no_evidence():
    assert log_likelihood_ratio(0, 0, ONE_TO_FIVE) == 0.0
    assert log_evidence_above(0, 0, 0.3) == 0.0


def test_with_no_error_allowed_one_error_weighs_more_than_a_hundred_good_answers():
    assert log_likelihood_ratio(1, 101, Limits(0.0, 0.05)) > 0


def test_a_refused_ratio_of_one_is_excluded_by_one_good_answer():
    assert log_likelihood_ratio(0, 1, Limits(0.5, 1.0)) < math.log(0.01)


def test_the_expected_sample_is_walds():
    # drift at 1 %: 0.01 ln 5 + 0.99 ln(95/99) = -0.02474; ln(0.01) / -0.02474
    assert expected_events(0.01, ONE_TO_FIVE, 0.01) == pytest.approx(186.2, abs=0.2)
    assert expected_events(0.05, ONE_TO_FIVE, 0.01) == math.inf


@pytest.mark.parametrize(("bad", "total", "limit"), [(3, 10, 0.2), (0, 5, 0.5), (40, 50, 0.6)])
def test_evidence_above_equals_its_integral(bad, total, limit):
    def likelihood(p: float) -> float:
        return p**bad * (1 - p) ** (total - bad)

    area, _ = integrate.quad(likelihood, limit, 1.0, epsabs=0.0)
    expected = math.log(area / (1 - limit) / likelihood(limit))
    assert log_evidence_above(bad, total, limit) == pytest.approx(expected, rel=1e-6)
    area, _ = integrate.quad(likelihood, 0.0, limit, epsabs=0.0)
    expected = math.log(area / limit / likelihood(limit))
    assert log_evidence_below(bad, total, limit) == pytest.approx(expected, rel=1e-6)


def test_a_bet_on_one_event_is_walds_ratio():
    # one error, on the canary, which has a quarter of the answers; five times the odds make it
    # 5 / 8 of them. On stable: (3 / 8) / (3 / 4)
    before = paid_in((), 1.0, MOSTLY_FIVEFOLD)
    (_, on_canary, _), (_, on_stable, _) = (
        after_arms(before, bad, (100, 300)) for bad in ((1, 0), (0, 1))
    )
    assert on_canary == pytest.approx(0.8 * (5 / 8) / (1 / 4))
    assert on_stable == pytest.approx(0.8 * 0.5)


def test_a_burst_gains_no_more_than_one_event_could():
    one, twenty = (after_arms(paid_in((), 1.0), (n, 0), (10, 990)) for n in (1, 2000))
    assert sum(one) < sum(twenty) <= 100 + 1e-9  # a hundredth of the answers: 1 / 0.01


def test_where_the_canary_has_most_answers_its_share_gains_little_and_its_ratio_much():
    # all of 95 fail, none of 5: 100 errors on its 95 % are 1 / 0.95 of what was expected
    by_share = after_arms(paid_in((), 1.0), (95, 0), (95, 5))
    assert sum(by_share) == pytest.approx(1 / 0.95)
    # its ratio is 0.95 above the margin, where stable's could have been 1.05 below it
    by_ratio = after_excess(EVENLY, (95, 0), (95, 5), 0.05)
    expected = [(1 + stake * 0.95 / 1.05) / 3 for stake in (0.25, 0.5, 1.0)]
    assert by_ratio == pytest.approx(expected)


def test_a_bet_on_an_excess_never_loses_more_than_its_stake():
    assert after_excess(EVENLY, (0, 5), (95, 5), 0.05)[2] == pytest.approx(0.0)
    # a counter may be read a moment after the other
    assert after_excess(EVENLY, (0, 7), (95, 5), 0.05)[2] == pytest.approx(0.0)
    assert after_excess(EVENLY, (5, 0), (10, 0), 0.05) == EVENLY
    assert after_excess(EVENLY, (0, 0), (0, 10), 0.05) == EVENLY
    assert after_excess((), (1, 1), (10, 10), 0.05) == ()


@given(st.floats(0.01, 0.5), st.integers(1, 20), st.integers(1, 20))
def test_a_canary_worse_by_less_than_the_margin_gains_nothing_by_its_excess(ratio, ours, theirs):
    """The mean over all numbers of bad answers, from scipy's binomial distribution."""
    margin = 0.05
    weights = [
        stats.binom.pmf(range(answered + 1), answered, p)
        for answered, p in ((ours, ratio + margin), (theirs, ratio))
    ]
    mean = sum(
        weights[0][bad] * weights[1][beside]
        * sum(after_excess(EVENLY, (bad, beside), (ours, theirs), margin))
        for bad in range(ours + 1)
        for beside in range(theirs + 1)
    )  # fmt: skip
    assert mean == pytest.approx(1.0)


def of_retries(percent: int, requests: float, burst: int, bet, *margin: float) -> float:
    """Return the mean capital after retries, which bring their requests to one arm, by its share.

    So do a client's, whichever version it has met; both versions are equally good.
    """
    share = percent / 100
    canary, stable = share * requests, (1 - share) * requests
    on_canary = sum(bet(EVENLY, (burst, 0), (canary + burst, stable), *margin))
    on_stable = sum(bet(EVENLY, (0, burst), (canary, stable + burst), *margin))
    return share * on_canary + (1 - share) * on_stable


@given(st.integers(1, 99), st.integers(1, 40), st.integers(1, 60))
def test_retries_on_either_arm_gain_nothing_in_the_mean(percent, requests, burst):
    assert of_retries(percent, requests, burst, after_arms) <= 1.0 + 1e-9


@given(st.integers(1, 99), st.integers(1, 40), st.integers(1, 60))
def test_retries_that_are_a_twentieth_of_the_requests_gain_nothing_by_an_excess_of_it(
    percent, requests, burst
):
    share, canary = percent / 100, percent / 100 * requests
    quiet = sum(after_excess(EVENLY, (0, 0), (canary, requests - canary), 0.05))
    seldom = min(1.0, 0.05 * canary / (share * burst))  # so often the canary's ratio is 0.05
    noisy = of_retries(percent, requests, burst, after_excess, 0.05)
    assert seldom * noisy + (1 - seldom) * quiet <= 1.0 + 1e-9


def test_without_answers_of_both_arms_there_is_no_bet():
    before = paid_in((), 1.0)
    assert after_arms(before, (3, 0), (10, 0)) == before
    assert after_arms(before, (0, 3), (0, 10)) == before
    assert after_arms(before, (0, 0), (10, 10)) == before
    assert after_bet(before, 0.0, 0.05, 0) == before


def test_a_bet_on_a_margin_gains_what_the_canary_is_below_it():
    # margin 0.04, the canary 1 of 10, stable 2 of 10: 0.04 - 0.1 + 0.2
    found = after_margin(EVENLY, (1, 2), (10, 10), 0.04)
    assert found == pytest.approx([(1 + stake * 0.14) / 3 for stake in (0.25, 0.5, 1.0)])
    assert after_margin(EVENLY, (10, 0), (10, 10), 0.04)[2] == pytest.approx(0.04 / 3)
    assert after_margin(EVENLY, (0, 0), (10, 0), 0.04) == EVENLY
    assert after_margin(EVENLY, (0, 0), (0, 10), 0.04) == EVENLY


@given(st.floats(0.01, 0.9), st.integers(1, 20), st.integers(1, 20))
def test_a_canary_worse_by_the_margin_gains_nothing_in_the_mean(ratio, canary, stable):
    """The mean over all numbers of bad answers, from scipy's binomial distribution."""
    margin = 0.05
    weights = [
        stats.binom.pmf(range(answered + 1), answered, p)
        for answered, p in ((canary, ratio + margin), (stable, ratio))
    ]
    mean = sum(
        weights[0][ours]
        * weights[1][theirs]
        * sum(after_margin(EVENLY, (ours, theirs), (canary, stable), margin))
        for ours in range(canary + 1)
        for theirs in range(stable + 1)
    )
    assert mean == pytest.approx(1.0)


def test_stakes_are_divided_over_the_bets_and_add_up():
    assert sum(EVENLY) == pytest.approx(1.0)
    assert sum(MOSTLY_FIVEFOLD) == pytest.approx(1.0)
    assert len(EVENLY) == len(MOSTLY_FIVEFOLD) == len(BETS)
    assert sum(paid_in(paid_in((), 0.25), 0.5)) == pytest.approx(0.75)


@given(st.integers(1, 9), st.integers(1, 60), st.integers(1, 30))
def test_equal_arms_gain_nothing_in_the_mean_however_errors_cluster(tenths, events, cluster):
    """The mean over where a cluster falls, by hand: on the canary with its share of the answers."""
    before, answered = paid_in((), 1.0), (tenths * 100, 1000 - tenths * 100)
    on_canary = sum(after_arms(before, (cluster * events, 0), answered))
    on_stable = sum(after_arms(before, (0, cluster * events), answered))
    share = tenths / 10
    assert share * on_canary + (1 - share) * on_stable == pytest.approx(1.0)


def test_what_is_surely_above_is_seldom_above_the_truth():
    random, wrong = np.random.default_rng(5), 0
    for _ in range(150):
        bad = np.cumsum(random.random(400) < 0.2)
        wrong += any(surely_above(int(bad[n - 1]), n, 0.05) > 0.2 for n in range(10, 400, 10))
    assert wrong <= 16  # 7.5 expected at most; three standard deviations above that
    assert surely_above(0, 100, 0.01) == 0.0
    assert surely_above(0, 0, 0.01) == 0.0
    assert 0.18 < surely_above(20_000, 100_000, 0.01) < 0.2


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
