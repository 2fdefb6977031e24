import math

import pytest

from components.deploy.judging.evidence import Counts
from components.deploy.judging.ladder import Traffic, outlook, seconds_on_rung
from contract.schema.serving import DeployConfig

CONFIG = DeployConfig()


def test_a_rung_takes_the_sample_of_the_canary_or_the_least_time():
    # Wald's expected sample at 1 % errors: ln(0.01) / -0.02474 = 186.2 requests
    assert seconds_on_rung(5, CONFIG, Traffic(4.0)) == pytest.approx(186.2 / 0.2, rel=1e-3)
    assert seconds_on_rung(50, CONFIG, Traffic(400.0)) == 60.0


def test_a_rung_also_takes_the_sample_of_stable():
    # 50 timed requests at 0.2 a second
    assert seconds_on_rung(95, CONFIG, Traffic(4.0)) == pytest.approx(50 / 0.2)


def test_errors_of_stable_make_the_way_longer():
    calm, troubled = (seconds_on_rung(25, CONFIG, Traffic(4.0, ratio)) for ratio in (0.0, 0.05))
    assert troubled > 2 * calm


def test_lower_rungs_that_take_too_long_are_left_out():
    found = outlook(CONFIG, Traffic(4.0), 3540.0)
    assert (found.skipped, found.is_possible) == (1, True)
    assert "from 5 % on" in found.words
    assert outlook(CONFIG, Traffic(100.0), 3540.0).skipped == 0


def test_the_last_two_rungs_are_never_left_out():
    found = outlook(CONFIG, Traffic(0.9), 3540.0)
    assert found.skipped <= 3


def test_what_cannot_end_in_time_says_how_much_time_it_needs():
    found = outlook(CONFIG, Traffic(0.3), 3540.0)
    # 186.15 canary requests on 50 %, 50 timed ones of stable on 80 %: 1,241 + 833 s, in which the
    # canary has 386 of the 458.2 that all rungs together need: 72 / 0.24 = 300 s more
    assert (found.skipped, found.last_percent) == (3, 80)
    assert not found.is_possible  # but it may do
    assert "so expect 'inconclusive': deploy.timeout_seconds needs 4,750 s" in found.words
    assert outlook(CONFIG, Traffic(0.01), 3540.0).skipped == 0
    assert "more traffic" in outlook(CONFIG, Traffic(0.0), 3540.0).words


@pytest.mark.parametrize(
    ("users", "is_told"), [(0, False), (400, True), (2_400, True), (2_500, False)]
)
def test_a_first_rung_of_fewer_than_25_users_is_told(users, is_told):
    # one user of 25 is 4 %, the margin of the default limits
    config = DeployConfig(sticky_header="x-user-id", sticky_users=users)
    words = outlook(config, Traffic(100.0), 3540.0).words
    assert ("no number of requests lets a good version pass there" in words) == is_told
    assert ("1 % of 400 users are 4:" in words) == (users == 400)


def test_where_stables_sample_takes_too_long_it_keeps_more_on_the_last_rung():
    found = outlook(CONFIG, Traffic(0.5), 3540.0)
    # at 95 %: 50 / 0.025 = 2,000 s, and 745 on 50 %, of 1,770. At 80 %: 50 / 0.1 = 500 s,
    # and 458 - 186 - 200 requests more for all rungs, at 0.4 a second: 180 s
    assert (found.skipped, found.last_percent, found.is_possible) == (3, 80, True)
    assert "needs about 1,425 of 3,540 s" in found.words
    assert "on the last rung stable keeps 20 %" in found.words
    assert outlook(CONFIG, Traffic(100.0), 3540.0).last_percent == 95


@pytest.mark.parametrize("ladder_percent", [(1, 80, 100), (1, 90, 100)])
def test_the_last_rung_stays_the_highest(ladder_percent):
    config = DeployConfig(ladder_percent=ladder_percent)
    found = outlook(config, Traffic(0.1), 3540.0)
    assert ladder_percent[-2] < found.last_percent <= config.rungs_percent[-1]


def test_both_arms_of_a_troubled_stable_are_compared_by_bets_where_that_is_quicker():
    # variance of the difference 0.0475 (1 / 2 + 1 / 2) a second; 1.5 (ln 1000 + 1) to be gained
    expected = 1.5 * (math.log(1000) + 1) * 2 * 0.0475 / 0.04**2
    assert seconds_on_rung(50, CONFIG, Traffic(4.0, 0.05)) == pytest.approx(expected)
    # no bet gains more than the margin of 0.04 in its time of three canary answers, here 15 s
    assert seconds_on_rung(5, CONFIG, Traffic(4.0, 0.05)) > 11.8 / 0.04 * 15


def test_few_requests_without_an_error_or_with_one_say_little_of_stables_ratio():
    one_of_forty = Traffic.of(Counts(40, 1, 0), 10.0, 0.01)
    # as if 100 more had shown 1 %: 2 of 140
    assert one_of_forty == Traffic(4.0, 2 / 140, 1 / 140)
    assert Traffic.of(Counts(9_900, 990), 10.0, 0.01).error_ratio == pytest.approx(0.0991)


def test_a_ladder_to_be_walked_whole_is_never_cut():
    config = DeployConfig(ladder="all")
    found = outlook(config, Traffic(4.0), 3540.0)
    assert (found.skipped, found.last_percent, found.is_possible) == (0, 95, False)


def test_a_ladder_of_one_rung_has_no_choice():
    config = DeployConfig(ladder_percent=(100,))
    assert config.rungs_percent == (95,)
    assert outlook(config, Traffic(40.0), 3540.0).skipped == 0


@pytest.mark.parametrize(
    ("ladder", "hold_back", "walked"),
    [((1, 50, 100), 5, (1, 50, 95)), ((50, 98, 100), 5, (50, 95)), ((95, 100), 5, (95,))],
)
def test_the_last_rung_leaves_stable_what_is_held_back(ladder, hold_back, walked):
    assert DeployConfig(ladder_percent=ladder, hold_back_percent=hold_back).rungs_percent == walked
