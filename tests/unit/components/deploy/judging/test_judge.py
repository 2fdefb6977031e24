"""What the judge decides on given counts; the numbers are of decisions that were once wrong."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.deploy.judging.accounts import Accounts, Phase, after, with_stake
from components.deploy.judging.consents import Terms
from components.deploy.judging.evidence import Counts
from components.deploy.judging.judge import Judgement, judge
from contract.schema.serving import DeployConfig

CONFIG = DeployConfig()
RUNG = Terms(CONFIG)
SHADOW = Terms(CONFIG, is_shadow=True, disagreement_limit=0.1)
BOUNDS_MS = (1.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0, 1000.0)
QUICK = (0, 900, 990, 1000, 1000, 1000, 1000, 1000)  # of a thousand; p95 is 7.8 ms
FIRST_STAKE = 0.7


def counts(requests: int, errors: int = 0, shape: tuple[int, ...] = QUICK, **more: Any) -> Counts:
    """Return counts whose answers were timed in the shape of a thousand."""
    timed = tuple(requests * n // shape[-1] if shape[-1] else 0 for n in shape)
    values = {"latency_counts": timed, "latency_total": requests, **more}
    return Counts(requests=requests, errors=errors, latency_bounds_ms=BOUNDS_MS, **values)


STABLE = counts(10_000, 10)


def part(whole: Counts, done: float) -> Counts:
    """Return what had been counted when a part of the time was over; each bucket fills evenly."""
    buckets = np.diff([0, *whole.latency_counts, whole.timed])
    *timed, total = np.cumsum((buckets * done + 0.5).astype(int)).tolist()
    return replace(
        whole,
        requests=int(whole.requests * done),
        errors=int(whole.errors * done),
        client_errors=int(whole.client_errors * done),
        abandoned=int(whole.abandoned * done),
        unreached=int(whole.unreached * done),
        latency_counts=tuple(timed),
        latency_total=total,
        compared=int(whole.compared * done),
        disagreements=int(whole.disagreements * done),
    )


def judged(
    canary: Counts,
    stable: Counts = STABLE,
    seconds: int = 60,
    terms: Terms = RUNG,
    stake: float = FIRST_STAKE,
) -> Judgement:
    """Judge counts that came evenly over some seconds, by a look a second, up to a decision."""
    phase, accounts = Phase(), with_stake(Accounts(), stake)
    before = (Counts(), Counts())
    for second in range(1, seconds + 1):
        now = (part(canary, second / seconds), part(stable, second / seconds))
        ours, theirs = (new.since(old) for new, old in zip(now, before, strict=True))
        phase = phase.grown(ours, theirs, terms.config.warm_up_requests)
        phase, accounts = after(1.0, phase, accounts, terms.config, terms.disagreement_limit)
        before, judgement = now, judge(phase, accounts, terms)
        if judgement.decision != "continue":
            break
    return judgement


def decision(canary: Counts, stable: Counts = STABLE, seconds: int = 60) -> str:
    return judged(canary, stable, seconds).decision


# --- once wrong: one test for each row of the table ---------------------------------------------


def test_1_what_is_still_under_way_is_not_a_success():
    half_hanging = counts(112, active=112)
    assert decision(half_hanging) == "continue"
    assert "112 more under way" in judged(half_hanging).reason
    assert decision(counts(224)) == "pass"


def test_1_what_its_callers_did_not_wait_for_is_an_error():
    """Callers with a deadline of their own: nothing stays under way, and nothing is answered."""
    half_left = counts(224, 112, abandoned=112)
    judgement = judged(half_left)
    assert (judgement.decision, judgement.decided_by) == ("fail", "errors")
    assert "of them abandoned by their callers" in judgement.reason


def test_1_callers_who_leave_both_arms_alike_roll_nothing_back_and_hold_nothing_up():
    """A tenth of all callers leaves: twice the refused ratio, but no incident of stable."""
    canary, stable = (counts(n, n // 10, abandoned=n // 10) for n in (5_000, 45_000))
    judgement = judged(canary, stable, seconds=300)
    assert judgement.decision == "pass", judgement.reason
    failing = judged(replace(canary, abandoned=0), replace(stable, abandoned=0), seconds=300)
    assert failing.decision == "continue"
    assert "stable itself fails" in failing.reason


def test_1_what_found_no_host_holds_a_version_up_but_does_not_roll_it_back():
    judgement = judged(counts(224, unreached=112), seconds=120)
    assert judgement.decision == "continue"
    assert "112 more found no host" in judgement.reason


def test_nobody_passes_while_requests_to_stable_find_no_host():
    judgement = judged(counts(224), replace(STABLE, unreached=2_000))
    assert judgement.decision == "continue"
    assert "requests to stable find no host" in judgement.reason
    assert decision(counts(224), replace(STABLE, unreached=200)) == "pass"


def test_2_a_version_that_refuses_every_request_fails():
    judgement = judged(counts(112, client_errors=112))
    assert judgement.decision == "fail"
    assert judgement.decided_by == "client errors"
    assert "100.0%, stable 0.0%" in judgement.reason


def test_2_clients_that_send_nonsense_to_both_arms_are_nobodys_fault():
    assert decision(counts(1_000, client_errors=200), counts(10_000, client_errors=2_000)) == "pass"


@pytest.mark.parametrize(("requests", "errors"), [(50, 1), (201, 5)])
def test_3_every_rung_asks_for_a_full_test(requests, errors):
    assert decision(counts(requests, errors)) == "continue"


def test_a_shadow_that_refuses_what_stable_answers_fails_as_if_it_had_errors():
    """4 % of the requests: too few for the margin of 10 points that client errors have."""
    canary = counts(500, 20, client_errors=20, compared=500, refused_alone=20)
    judgement = judged(canary, counts(500), terms=SHADOW, stake=0.1)
    assert judgement.decision == "fail"
    assert judgement.decided_by == "errors"
    assert "refused what stable answered" in judgement.reason


def test_a_shadow_is_judged_by_its_latency_too():
    slow = counts(500, compared=500, shape=(0, 810, 891, 900, 900, 900, 900, 1000))
    judgement = judged(slow, counts(500), terms=SHADOW, stake=0.1)
    assert (judgement.decision, judgement.decided_by) == ("fail", "p95")
    untimed = counts(500, compared=500, shape=(0,) * 8, latency_total=0)
    assert judged(untimed, counts(500), terms=SHADOW, stake=0.1).decision == "continue"


def test_a_shadow_that_refuses_what_stable_refuses_passes():
    canary = counts(500, client_errors=20, compared=480)
    judgement = judged(canary, counts(500, client_errors=20), terms=SHADOW, stake=0.1)
    assert judgement.decision == "pass"


def test_on_a_rung_values_that_both_versions_refuse_are_the_callers():
    assert decision(counts(500, client_errors=25), counts(9_500, client_errors=475)) == "pass"


def test_on_a_rung_a_canary_that_refuses_5_percent_alone_is_rolled_back():
    judgement = judged(counts(500, client_errors=25), counts(9_500))
    assert (judgement.decision, judgement.decided_by) == ("fail", "client errors")


def test_3_a_full_test_is_118_clean_requests():
    # ln(0.8 x 0.01) / ln(0.95 / 0.99) = 117.07
    assert decision(counts(117)) == "continue"
    assert decision(counts(118)) == "pass"


def test_4_a_tenth_of_the_requests_a_hundred_times_slower_fails():
    shape = (0, 810, 891, 900, 900, 900, 900, 1000)  # of 500: 50 at 500 to 1,000 ms; p95 750 ms
    judgement = judged(counts(500, shape=shape))
    assert judgement.decision == "fail"
    assert judgement.decided_by == "p95"
    assert "stable 7.8 ms" in judgement.reason


def test_5_what_was_not_timed_does_not_pass():
    assert decision(counts(500, shape=(0,) * 8, latency_total=0)) == "continue"


def test_5_what_is_slower_than_the_last_bound_counts_as_slow():
    assert decision(counts(500, shape=(0,) * 8), seconds=2) == "continue"
    judgement = judged(counts(500, shape=(0,) * 8))
    assert (judgement.decision, judgement.decided_by) == ("fail", "p95")


def test_5_stable_needs_its_minimum_timed_too():
    def decided(timed: int) -> Judgement:
        stable = counts(10_000, latency_counts=(timed,) * 8, latency_total=timed)
        phase = Phase(seconds=60, canary=counts(500), stable=stable, warm_canary=Counts())
        return judge(phase, Accounts(), RUNG)

    assert decided(49).decision == "continue"
    assert "500 timed after warm-up, 49 of stable, 50 of each needed" in decided(49).reason
    assert decided(50).decision == "pass"


def test_6_more_errors_than_stable_fail_whatever_the_absolute_ratio():
    judgement = judged(counts(2_000, 20), counts(200_000, 0))
    assert (judgement.decision, judgement.decided_by) == ("fail", "errors")


def test_6_two_errors_prove_nothing():
    assert decision(counts(2_000, 2), counts(200_000, 0)) == "pass"


def test_7_nobody_passes_or_fails_while_stable_itself_fails():
    judgement = judged(counts(50, 49), counts(10_000, 10_000))
    assert judgement.decision == "continue"
    assert "stable itself fails" in judgement.reason


def test_8_a_rung_has_a_least_time():
    assert decision(counts(10_000), counts(100_000), seconds=59) == "continue"
    assert judged(counts(10_000), counts(100_000), seconds=59).decided_by == "time"
    assert decision(counts(10_000), counts(100_000), seconds=60) == "pass"


def test_9_a_shadow_request_of_200_rows_is_one_sample():
    one = counts(150, compared=1, disagreements=0.0)
    judgement = judged(one, counts(150), terms=SHADOW)
    assert judgement.decision == "continue"
    assert "1 of at least 200 compared requests" in judgement.reason


def test_11_four_errors_to_none_at_even_shares_may_be_chance():
    # each of the four falls on the canary with one half: 1/16
    assert decision(counts(40, 4), counts(40, 0)) == "continue"


def test_12_the_first_requests_of_a_cold_server_may_be_slow():
    assert decision(counts(4, shape=(0,) * 8), seconds=4) == "continue"


# --- error rates over the whole way -------------------------------------------------------------


def rolled_back(stable_ratio: float, ratio: float, trials: int, **how: int) -> int:
    """Return how many of so many canaries are rolled back on a rung of 50 % in two minutes."""
    return sum(walk(stable_ratio, ratio, seed, **how) == "fail" for seed in range(trials))


def walk(stable_ratio: float, ratio: float, seed: int, burst: int = 1, rate: int = 25) -> str:
    random = np.random.default_rng(seed)
    phase, accounts = Phase(), with_stake(Accounts(), FIRST_STAKE)
    for _ in range(120):
        errors = [
            min(rate, burst * int(random.binomial(rate, p / burst))) for p in (ratio, stable_ratio)
        ]
        canary, stable = (Counts(rate, found) for found in errors)
        phase = phase.grown(canary, stable, 20)
        phase, accounts = after(1.0, phase, accounts, CONFIG, None)
        if accounts.proven(CONFIG.alpha):
            return "fail"
    return "continue"


def test_10_bursts_of_20_errors_on_either_arm_are_blocks():
    # at most alpha x 0.58 x 0.7 = 0.4 % of 200; counted one by one a third of them would go
    assert rolled_back(0.01, 0.01, trials=200, burst=20) <= 4


def test_11_a_canary_that_shares_stables_five_percent_is_not_rolled_back():
    assert rolled_back(0.05, 0.05, trials=200) <= 4


def on_a_slow_rung(stable_ratio: float, ratio: float, seed: int) -> tuple[str, int]:
    """Walk a rung of half the traffic at 20 requests a second: (decision, canary requests)."""
    random = np.random.default_rng(seed)
    phase, accounts = Phase(), with_stake(Accounts(), FIRST_STAKE)
    for _ in range(600):
        answered = random.poisson(10, 2)
        errors = random.binomial(answered, (ratio, stable_ratio))
        canary, stable = (
            counts(int(total), int(bad)) for total, bad in zip(answered, errors, strict=True)
        )
        phase = phase.grown(canary, stable, 20)
        phase, accounts = after(1.0, phase, accounts, CONFIG, None)
        judgement = judge(phase, accounts, RUNG)
        if judgement.decision != "continue":
            break
    return judgement.decision, phase.canary.requests


def test_where_both_fail_five_percent_at_20_requests_a_second_a_good_canary_passes():
    walked = [on_a_slow_rung(0.05, 0.05, seed) for seed in range(20)]
    assert [decision for decision, _ in walked].count("pass") >= 19
    # by a confidence sequence of each arm alone it takes twice as many
    assert np.median([requests for _, requests in walked]) < 2_500


def test_where_stable_fails_five_percent_a_canary_that_fails_nine_does_not_pass():
    assert "pass" not in [on_a_slow_rung(0.05, 0.09, seed)[0] for seed in range(20)]


def test_bets_on_a_good_canary_do_not_excuse_what_is_under_way():
    trusted = Phase(
        seconds=60.0,
        canary=counts(1_000, 50),
        stable=counts(1_000, 50),
        warm_canary=Counts(),
        trust=(0.0, 0.0, 1_000.0),  # 1 / (0.1 x 0.01)
    )
    assert judge(trusted, Accounts(), RUNG).decision == "pass"
    # 150 of 1,100 is more than 4 points above stable's 5 %
    hanging = trusted.model_copy(update={"canary": counts(1_000, 50, active=100)})
    assert judge(hanging, Accounts(), RUNG).decision == "continue"
    unsure = trusted.model_copy(update={"trust": (0.0, 0.0, 999.0)})
    assert judge(unsure, Accounts(), RUNG).decision == "continue"


def test_at_4_requests_a_second_5_percent_errors_are_caught_as_soon_as_at_400():
    """On 5 % of the traffic: the canary has an answer every five seconds."""

    def requests_until_rolled_back(seed: int) -> int:
        random = np.random.default_rng(seed)
        phase, accounts = Phase(), with_stake(Accounts(), FIRST_STAKE)
        for _ in range(20_000):
            answered = random.poisson((0.2, 3.8))
            errors = random.binomial(answered, (0.05, 0.01))
            arms = zip(answered.tolist(), errors.tolist(), strict=True)
            canary, stable = (Counts(total, bad) for total, bad in arms)
            phase = phase.grown(canary, stable, 20)
            phase, accounts = after(1.0, phase, accounts, CONFIG, None)
            if accounts.proven(CONFIG.alpha):
                break
        return phase.canary.requests

    # 156 by simulation; 214 with bets on each second alone
    assert np.median([requests_until_rolled_back(seed) for seed in range(25)]) < 195


def test_a_canary_that_fails_five_times_as_often_is_rolled_back():
    assert rolled_back(0.01, 0.05, trials=100) >= 99


# --- more of the same ---------------------------------------------------------------------------


def test_no_traffic_neither_passes_nor_fails():
    nothing = judged(Counts(), Counts(), seconds=600)
    assert nothing.decision == "continue"
    assert nothing.missing >= 118
    assert decision(Counts(), STABLE) == "continue"
    assert "stable had no traffic" in judged(counts(50), Counts()).reason


def test_what_stable_suffers_too_does_not_stop_a_canary():
    # 3 % of both: beyond what is allowed, and surely less than a margin above stable's
    assert decision(counts(3_000, 90), counts(30_000, 900)) == "pass"
    assert decision(counts(3_000, 210), counts(30_000, 900)) == "fail"


def test_few_stable_requests_excuse_little():
    # three of a hundred: surely no more than 0.1 % of stable's requests fail
    assert decision(counts(3_000, 90), counts(100, 3)) == "continue"


def test_the_evidence_decides_in_figures_and_words():
    judgement = judged(counts(83, 9))
    assert judgement.decision == "fail"
    assert "errors decided, evidence" in judgement.reason
    assert "from 172 on it is rolled back" in judgement.reason  # 1 / (0.01 x 0.58)


def test_three_ms_against_one_is_no_reason_to_roll_back():
    at_once, three_ms = (1000,) * 8, (0,) + (1000,) * 7
    assert decision(counts(500, shape=three_ms), counts(10_000, shape=at_once)) == "pass"


def test_slowness_that_both_arms_suffer_is_nobodys_fault():
    slow = (0, 600, 650, 700, 700, 700, 700, 1000)
    assert decision(counts(500, shape=slow), counts(5_000, shape=slow)) != "fail"


def test_a_shadow_passes_after_its_sample():
    def shadow(compared: int, disagreements: float) -> Judgement:
        both = counts(compared)
        canary = replace(both, compared=compared, disagreements=disagreements)
        return judged(canary, both, terms=SHADOW)

    assert shadow(199, 5).decision == "continue"
    assert shadow(200, 5).decision == "pass"
    assert shadow(200, 25).decision == "continue"  # 12.5 %: too many, but it may be chance
    failed = shadow(200, 100)
    assert (failed.decision, failed.decided_by) == ("fail", "disagreement")


def test_a_shadow_whose_answers_are_not_compared_is_judged_by_the_rest():
    terms = Terms(CONFIG, is_shadow=True)
    assert judged(counts(199), counts(199), terms=terms).decision == "continue"
    assert judged(counts(200), counts(200), terms=terms).decision == "pass"
    assert judged(counts(199, 90), counts(199), terms=terms).decision == "fail"


def test_missing_is_how_many_clean_requests_would_do():
    judgement = judged(counts(100, 1))
    # (ln 5 - 99 x 0.04124 + 4.8283) / 0.04124
    assert judgement.missing == math.ceil(
        (math.log(5) + math.log(125)) / math.log(0.99 / 0.95) - 99
    )
    assert decision(counts(100 + judgement.missing, 1)) == "pass"
    assert decision(counts(99 + judgement.missing, 1)) == "continue"


@given(st.integers(0, 2_000), st.data())
def test_more_errors_never_let_a_canary_pass(total, data):
    errors = data.draw(st.integers(0, total))
    more = data.draw(st.integers(errors, total))
    phases = [
        Phase(seconds=60.0, canary=counts(total, n), stable=STABLE, warm_canary=Counts())
        for n in (errors, more)
    ]
    before, worse = (judge(phase, Accounts(), RUNG).decision for phase in phases)
    assert (before, worse) != ("continue", "pass")


@given(st.integers(0, 500), st.integers(0, 500))
def test_slower_never_lets_a_canary_pass(quick, slow):
    def decided(number: int) -> str:
        histogram = (0, number, number, number, *(quick + slow,) * 4)
        timed = Counts(
            requests=quick + slow,
            latency_bounds_ms=BOUNDS_MS,
            latency_counts=histogram,
            latency_total=quick + slow,
        )
        phase = Phase(seconds=60.0, canary=timed, stable=STABLE, warm_canary=Counts())
        return judge(phase, Accounts(), RUNG).decision

    assert (decided(quick), decided(quick // 2)) != ("continue", "pass")
