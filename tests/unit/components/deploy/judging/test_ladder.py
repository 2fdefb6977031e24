import pytest

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
    found = outlook(CONFIG, Traffic(0.5), 3540.0)
    assert not found.is_possible
    assert found.skipped == 3  # it may do
    assert "so expect 'inconclusive': deploy.timeout_seconds needs" in found.words
    assert outlook(CONFIG, Traffic(0.01), 3540.0).skipped == 0
    assert "more traffic" in outlook(CONFIG, Traffic(0.0), 3540.0).words


def test_a_ladder_to_be_walked_whole_is_never_cut():
    config = DeployConfig(ladder="all")
    assert outlook(config, Traffic(4.0), 3540.0).skipped == 0
    assert not outlook(config, Traffic(4.0), 3540.0).is_possible


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
