import pytest

from components.deploy.judging.accounts import (
    ALPHA_SHARES,
    Accounts,
    Phase,
    after,
    bet_seconds,
    bound,
    stakes,
    with_stake,
)
from components.deploy.judging.evidence import Counts
from contract.schema.serving import DeployConfig

CONFIG = DeployConfig()


def test_one_alpha_is_divided_over_the_tests():
    assert sum(ALPHA_SHARES.values()) == pytest.approx(0.9)
    assert sum(1 / bound(test, 0.01) for test in ALPHA_SHARES) == pytest.approx(0.009)


@pytest.mark.parametrize(("phases", "has_shadow"), [(6, True), (5, False), (2, True), (1, False)])
def test_one_stake_is_divided_over_the_phases(phases, has_shadow):
    found = stakes(phases, has_shadow)
    assert len(found) == phases
    assert sum(found) == pytest.approx(1.0)
    assert max(found) == found[has_shadow]


def test_bets_are_settled_once_a_second():
    accounts, phase = with_stake(Accounts(), 1.0), Phase()
    for _ in range(3):
        phase = phase.grown(Counts(10, 5), Counts(10, 0), 0)
        phase, now = after(0.25, phase, accounts, CONFIG, None)
        assert now == accounts
    phase, now = after(0.25, phase, accounts, CONFIG, None)
    assert now.evidence()["errors"] > 1.0
    assert now.bad["errors"] == 15
    assert now.bad_seconds["errors"] == 1
    assert phase.settled_canary == phase.canary


@pytest.mark.parametrize(
    ("canary_requests_per_second", "seconds"),
    [(1000.0, 1.0), (3.0, 1.0), (0.2, 15.0), (0.01, 60.0)],
)
def test_a_bet_lasts_as_long_as_three_canary_answers_take(canary_requests_per_second, seconds):
    assert bet_seconds(canary_requests_per_second) == pytest.approx(seconds)


def test_how_long_a_bet_lasts_is_known_when_it_begins():
    phase = Phase(seconds=10.0, settled_seconds=10.0, settled_canary=Counts(1))
    # one answer in ten seconds, and one to be careful: 3 / 0.2
    assert phase.bet_seconds() == pytest.approx(15.0)
    assert phase.grown(Counts(500, 500), Counts(500), 0).bet_seconds() == pytest.approx(15.0)
    assert Phase().bet_seconds() == 1.0


def test_a_bet_counts_what_stable_failed_while_the_canary_had_no_answer():
    began = Phase(seconds=5.0, settled_seconds=5.0, settled_canary=Counts(), canary=Counts())
    phase, accounts = began, with_stake(Accounts(), 1.0)
    for second in range(15):
        canary = Counts(1, int(second == 0)) if second % 5 == 0 else Counts()
        phase = phase.grown(canary, Counts(19, 1), 0)
        phase, now = after(1.0, phase, accounts, CONFIG, None)
        if second < 14:
            assert now == accounts
    # 1 of 16 errors at 3 of 288 answers: six times its share. In a bet on the first second alone it
    # was 1 of 2 at 1 of 20: ten times
    share = 3 / 288
    expected = sum(
        part * (1 + (1 - (1 + share * (odds - 1)) ** -16) * 5)
        for part, odds in ((0.1, 2), (0.8, 5), (0.1, 25))
    )
    # a twenty-fifth of the stake is for the excess, of which the bet before had none
    expected = 0.96 * expected + 0.04
    assert now.evidence()["errors"] == pytest.approx(expected)


def test_the_bets_on_a_good_canary_begin_with_each_phase_and_grow_by_the_margin():
    phase = Phase().grown(Counts(10, 0), Counts(10, 0), 0)
    phase, _ = after(1.0, phase, with_stake(Accounts(), 1.0), CONFIG, None)
    # margin 0.05 - 0.01, stakes of a quarter, a half and all
    assert sum(phase.trust) == pytest.approx((1.01 + 1.02 + 1.04) / 3)


def test_five_bad_answers_prove_nothing_and_six_in_two_seconds_neither():
    def proven(*seconds: int) -> str:
        accounts, phase = with_stake(Accounts(), 1.0), Phase()
        for errors in seconds:
            phase = phase.grown(Counts(6, errors), Counts(600, 0), 0)
            phase, accounts = after(1.0, phase, accounts, CONFIG, None)
        return accounts.proven(CONFIG.alpha)

    assert proven(1, 1, 1, 1, 1) == ""
    assert proven(6, 6) == ""
    assert proven(2, 2, 2) == "errors"


def test_the_evidence_on_a_quantile_is_the_lesser_of_its_two_bets():
    capital = {"p95": (3.0,), "p95 against stable": (2.0,), "errors": (1.0,)}
    assert Accounts(capital=capital).evidence() == {"errors": 1.0, "p95": 2.0}


def test_a_version_that_fails_altogether_on_the_last_rung_is_proven_in_seconds():
    accounts, phase, seconds = with_stake(Accounts(), 0.05), Phase(), 0
    while not accounts.proven(CONFIG.alpha):
        phase = phase.grown(Counts(95, 95), Counts(5, 0), 0)
        phase, accounts = after(1.0, phase, accounts, CONFIG, None)
        seconds += 1
    # after the first second 0.05 x 0.04 / 3 grows by 1 + 0.9 / 1.05 a second, up to 172
    # 0.00067 x 1.905 ** 20 = 263, and x 1.905 ** 19 = 138
    assert seconds == 21
    # by the share of 95 % alone it takes ln(172 / 0.048) / ln(1 / 0.95) = 160


def test_a_clean_record_costs_nothing_of_the_bet_on_an_excess():
    accounts, phase = with_stake(Accounts(), 1.0), Phase()
    for _ in range(600):
        phase = phase.grown(Counts(95, 0), Counts(5, 0), 0)
        phase, accounts = after(1.0, phase, accounts, CONFIG, None)
    assert sum(accounts.capital["errors in excess"]) == pytest.approx(0.04)


def test_a_trial_that_began_before_there_were_bets_on_an_excess_goes_on():
    capital = with_stake(Accounts(), 1.0).capital
    old = Accounts(capital={n: c for n, c in capital.items() if "excess" not in n})
    phase = Phase().grown(Counts(10, 5), Counts(10, 0), 0)
    _, now = after(1.0, phase, old, CONFIG, None)
    assert now.evidence()["errors"] > 1.0
    assert sum(with_stake(now, 0.5).capital["errors in excess"]) == pytest.approx(0.02)


def test_latency_counts_from_the_warm_up_on():
    bounds = (10.0,)
    cold = Counts(20, latency_bounds_ms=bounds, latency_counts=(0,), latency_total=20)
    warm = Counts(30, latency_bounds_ms=bounds, latency_counts=(30,), latency_total=30)
    phase = Phase().grown(cold, cold, 20).grown(warm, warm, 20)
    assert [arm.timed for arm in phase.timed()] == [30, 30]
    assert phase.timed()[0].slower_than(10.0) == 0
    assert Phase().grown(cold, cold, 21).timed() == (Counts(), Counts())
