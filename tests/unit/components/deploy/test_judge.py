import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.deploy.evidence import Counts
from components.deploy.judge import Judgement, Rung, error_limits, judge_rung, judge_shadow
from contract.schema.serving import DeployConfig

CONFIG = DeployConfig()
BOUNDS_MS = (1.0, 5.0, 10.0, 20.0, 50.0, 100.0)
CLEAN = Counts(requests=10_000, errors=20)
WORSE = {"pass": 0, "continue": 1, "fail": 2}

requests = st.integers(0, 2_000)


def rung(total: int, errors: int, stable: Counts = CLEAN, has_credit: bool = False) -> Rung:
    return Rung(Counts(requests=total, errors=errors), stable, has_credit)


def judge(total: int, errors: int, stable: Counts = CLEAN, has_credit: bool = False) -> str:
    return judge_rung(rung(total, errors, stable, has_credit), CONFIG).decision


def timed(counts: tuple[int, ...], errors: int = 0) -> Counts:
    return Counts(
        requests=counts[-1], errors=errors, latency_bounds_ms=BOUNDS_MS, latency_counts=counts
    )


def test_a_clean_canary_passes_after_the_requests_that_wald_asks_for():
    # ln(0.99/0.01) / ln(0.99/0.95) = 111.4 clean requests
    assert judge(111, 0) == "continue"
    assert judge(112, 0) == "pass"


def test_nine_errors_in_83_requests_are_too_many_and_said_so():
    judgement = judge_rung(rung(83, 9), CONFIG)
    assert judgement.decision == "fail"
    assert judgement.reason == (
        "9 errors in 83 requests (10.8%; 1.0% allowed, stable 0.2% of 10,000)"
    )


def test_a_canary_that_always_fails_is_caught_after_three_requests():
    # 3 ln 5 = 4.83 is above ln 99 = 4.60, 2 ln 5 = 3.22 is not
    assert judge(2, 2) == "continue"
    assert judge(3, 3) == "fail"


def test_no_traffic_neither_passes_nor_fails():
    assert judge(0, 0) == "continue"
    assert judge(0, 0, has_credit=True) == "continue"


def test_the_minimum_sample_holds_where_a_rung_has_credit():
    assert judge(49, 0, has_credit=True) == "continue"
    assert judge(50, 0, has_credit=True) == "pass"


def test_a_long_clean_record_cannot_hide_a_version_that_fails_under_load():
    # credit is ln(1/99), however long the record: 2 ln 99 = 9.19 is reached with 6 errors of 6
    assert judge(6, 6, has_credit=True) == "fail"


def test_what_stable_suffers_too_is_not_the_canarys_fault():
    suffering = Counts(requests=10_000, errors=1_000)
    assert judge(100, 10, CLEAN) == "fail"
    assert judge(100, 10, suffering) == "continue"
    assert judge(2_000, 200, suffering) == "pass"
    assert judge(2_000, 400, suffering) == "fail"


def test_a_handful_of_stable_requests_proves_little():
    # (1 + 50 x 0.01) / (2 + 50) = 2.9 %, and refused is as far above it as before
    limits = error_limits(Counts(requests=2, errors=1), CONFIG)
    assert limits.allowed == pytest.approx(1.5 / 52)
    assert limits.refused == pytest.approx(1.5 / 52 + 0.04)


def test_without_stable_traffic_the_configs_limits_hold():
    limits = error_limits(Counts(), CONFIG)
    assert (limits.allowed, limits.refused) == pytest.approx((0.01, 0.05))
    assert "stable had no traffic" in judge_rung(rung(200, 0, Counts()), CONFIG).reason


def test_a_canary_much_slower_than_stable_fails():
    stable = timed((0, 9_000, 9_900, 10_000, 10_000, 10_000))  # p95 about 7.8 ms, limit 23.3 ms
    slow = timed((0, 0, 0, 10, 100, 200))
    judgement = judge_rung(Rung(slow, stable), CONFIG)
    assert judgement.decision == "fail"
    assert "100 of 200 above 23.3 ms" in judgement.reason


def test_three_ms_against_one_is_no_reason_to_roll_back():
    stable = timed((10_000,) * 6)
    three_ms = timed((0, 200, 200, 200, 200, 200))
    assert judge_rung(Rung(three_ms, stable), CONFIG).decision == "pass"


def test_latency_is_not_compared_with_a_handful_of_stable_requests():
    slow = timed((0, 0, 0, 0, 0, 200))
    judgement = judge_rung(Rung(slow, timed((49,) * 6)), CONFIG)
    assert judgement.decision == "pass"
    assert "latency not compared" in judgement.reason


def test_a_shadow_passes_after_its_sample():
    def shadow(compared: int, disagreements: int) -> Judgement:
        counts = Counts(compared=compared, disagreements=disagreements)
        return judge_shadow(Rung(counts, CLEAN), DeployConfig(max_disagreement_ratio=0.1))

    assert shadow(0, 0).decision == "continue"
    assert shadow(199, 5) == Judgement("continue", shadow(199, 5).reason, 1)
    assert shadow(200, 5).decision == "pass"
    assert shadow(200, 25).decision == "continue"  # 12.5 %: too many, but it may be chance
    assert shadow(50, 25).decision == "fail"


def test_a_shadow_that_fails_is_caught_by_its_errors():
    counts = Counts(requests=100, errors=20, compared=80)
    assert judge_shadow(Rung(counts, CLEAN), CONFIG).decision == "fail"


def test_missing_is_how_many_clean_requests_would_do():
    judgement = judge_rung(rung(60, 1), CONFIG)
    assert judgement.decision == "continue"
    assert judge(60 + judgement.missing, 1) == "pass"
    assert judge(60 + judgement.missing - 1, 1) == "continue"


@given(requests, st.data(), st.booleans())
def test_more_errors_never_help(total, data, has_credit):
    errors = data.draw(st.integers(0, total))
    more = data.draw(st.integers(errors, total))
    before, after = judge(total, errors, CLEAN, has_credit), judge(total, more, CLEAN, has_credit)
    assert WORSE[after] >= WORSE[before]


@given(requests, st.data(), st.integers(0, 5_000))
def test_more_errors_of_stable_never_hurt_the_canary(total, data, stable_total):
    errors = data.draw(st.integers(0, total))
    few = data.draw(st.integers(0, stable_total))
    many = data.draw(st.integers(few, stable_total))
    calm = judge(total, errors, Counts(requests=stable_total, errors=few))
    troubled = judge(total, errors, Counts(requests=stable_total, errors=many))
    assert WORSE[troubled] <= WORSE[calm]


@given(requests, st.data())
def test_credit_never_hurts(total, data):
    errors = data.draw(st.integers(0, total))
    assert WORSE[judge(total, errors, has_credit=True)] <= WORSE[judge(total, errors)]


@given(requests, st.data(), st.booleans())
def test_nothing_passes_below_the_minimum_sample(total, data, has_credit):
    errors = data.draw(st.integers(0, total))
    if judge(total, errors, CLEAN, has_credit) == "pass":
        assert total >= CONFIG.min_requests_per_step


@given(st.integers(0, 500), st.integers(0, 500))
def test_slower_never_helps(fast, slow):
    stable = timed((0, 9_000, 9_900, 10_000, 10_000, 10_000))
    some = timed((0, fast, fast, fast, fast + slow, fast + slow))
    more = timed((0, fast // 2, fast // 2, fast // 2, fast + slow, fast + slow))
    before = judge_rung(Rung(some, stable), CONFIG).decision
    after = judge_rung(Rung(more, stable), CONFIG).decision
    assert WORSE[after] >= WORSE[before]


@pytest.mark.parametrize(("ratio", "most_wrong"), [(0.01, 0.03), (0.10, 0.03)])
def test_the_judge_is_seldom_wrong(ratio, most_wrong):
    """At alpha = beta = 1 %, of 300 trials 3 are expected wrong; 9 is three deviations more."""
    random, wrong = np.random.default_rng(11), 0
    for _ in range(300):
        errors, decision, total = np.cumsum(random.random(5_000) < ratio), "continue", 0
        while decision == "continue":
            total += 5
            decision = judge(total, int(errors[total - 1]))
        wrong += decision != ("pass" if ratio < 0.02 else "fail")
    assert wrong / 300 <= most_wrong


@pytest.mark.parametrize("stable_per_look", [20, 380])
def test_a_canary_that_shares_stables_trouble_is_seldom_rolled_back(stable_per_look):
    """Expected of 200 trials at alpha = 1 %: 2; 8 is four deviations more."""
    random, rolled_back = np.random.default_rng(5), 0
    for _ in range(200):
        decision, canary, stable = "continue", Counts(), Counts()
        while decision == "continue" and canary.requests < 4_000:
            canary += Counts(requests=20, errors=int(random.binomial(20, 0.06)))
            stable_errors = int(random.binomial(stable_per_look, 0.06))
            stable += Counts(requests=stable_per_look, errors=stable_errors)
            decision = judge_rung(Rung(canary, stable), CONFIG).decision
        rolled_back += decision == "fail"
    assert rolled_back <= 8
