"""How a canary proceeds with little traffic, or none."""

import pytest
from trials import killed_state, seldom, weights

from components.deploy.canary.canary import deploy


def test_without_traffic_it_is_inconclusive_and_the_champion_stays(served, make_deployment):
    served.requests_per_second = 0.0
    record, _ = deploy(make_deployment(timeout_seconds=10.0))
    assert record.outcome == "inconclusive"
    assert record.ladder[-1].decision == "inconclusive"
    assert served.plan.versions == {1}
    assert 10 <= served.time.seconds < 20


def test_too_little_traffic_on_a_rung_is_inconclusive(served, make_deployment):
    served.requests_per_second = 100.0
    whole = {"ladder": "all", "timeout_seconds": 20.0, "shadow_requests": 0}
    record, _ = deploy(make_deployment(**whole))
    assert record.outcome == "inconclusive"
    assert 0 < record.canary_requests < 50
    assert weights(served.plan) == {1: 100}
    told = f"inconclusive, so rolled back after {record.canary_requests} canary requests (at 1 %)"
    assert record.reasons[0].startswith(f"{told}: no decision within 20 s: 0 errors in ")
    assert "evidence against it" not in record.reasons[0]


def test_what_speaks_against_a_version_is_told_when_its_time_is_over(served, make_deployment):
    """Ten times stable's errors, too few requests to prove it: stable gets all traffic again."""
    served.of(1).error_ratio, served.of(2).error_ratio = 0.002, 0.02
    whole = {"ladder_percent": (50, 100), "timeout_seconds": 30.0, "shadow_requests": 0}
    record, _ = deploy(make_deployment(**whole))
    assert record.outcome == "inconclusive"
    assert weights(served.plan) == {1: 100}
    step = record.ladder[-1]
    against, needed = step.evidence["errors"], step.bounds["errors"]
    assert 1 < against < needed
    assert f"; evidence against it: errors {against:,.1f} of {needed:,.0f}" in record.reasons[0]


@pytest.mark.parametrize(
    ("requests_per_second", "first"), [(4.0, "5 %"), (100.0, "1 %"), (0.5, "50 %")]
)
def test_the_way_begins_on_the_first_rung_that_fits_the_traffic(
    served, make_deployment, requests_per_second, first
):
    served.requests_per_second = requests_per_second
    times = {"timeout_seconds": 7200.0 if requests_per_second < 1 else 3600.0}
    record, _ = deploy(seldom(served, make_deployment(min_seconds_per_step=60.0, **times)))
    assert record.outcome == "passed"
    assert record.ladder[1].name == first
    assert served.time.seconds < times["timeout_seconds"]


def test_too_little_traffic_for_the_time_is_said_at_the_start(served, make_deployment, caplog):
    served.requests_per_second = 0.2
    deployment = make_deployment(shadow_requests=0, timeout_seconds=600.0)
    record, _ = deploy(seldom(served, deployment))
    assert record.outcome == "inconclusive"
    assert "deploy.timeout_seconds needs" in record.reasons[0]
    assert "deploy.timeout_seconds needs" in caplog.records[0].getMessage()


def test_where_traffic_is_scarce_stable_keeps_more_on_the_last_rung(served, make_deployment):
    served.requests_per_second = 0.25  # and every look at it takes twice the time it should
    deployment = make_deployment(shadow_requests=0, min_seconds_per_step=60.0)
    record, _ = deploy(seldom(served, deployment))
    assert [step.name for step in record.ladder] == ["50 %", "80 %"]
    assert record.outcome == "passed"
    assert weights(served.plan) == {1: 20, 2: 80}
    assert killed_state(deployment).last_percent == 80


@pytest.mark.parametrize(("requests_per_second", "looked"), [(0.5, 60.0), (400.0, 10.0)])
def test_with_little_traffic_it_looks_longer_before_it_chooses_the_first_rung(
    served, make_deployment, requests_per_second, looked
):
    """A minute at most, or until 200 requests were seen."""
    served.requests_per_second = requests_per_second
    deployment = make_deployment(
        shadow_requests=0, min_seconds_per_step=120.0, timeout_seconds=looked + 1.0
    )
    entered: list[float] = []

    def note(world):
        if world.plan.canary and not entered:
            entered.append(world.time.seconds)

    served.on_observation = note
    deploy(deployment)
    assert entered[0] == pytest.approx(looked, abs=1.0)


def test_a_phase_that_passes_settles_what_was_bet_last(served, make_deployment):
    """Only stable fails, in the last half second: that speaks for the canary, and is not lost."""
    entered: list[float] = []

    def fail_at_last(world):
        if world.plan.canary and world.plan.canary.weight_percent == 50:
            entered.append(world.time.seconds)
            world.of(1).error_ratio = 0.04 if world.time.seconds > entered[0] + 2.0 else 0.0

    served.on_observation = fail_at_last
    deployment = make_deployment(
        shadow_requests=0, ladder_percent=(50, 100), min_seconds_per_step=2.5
    )
    record, _ = deploy(deployment)
    assert record.ladder[0].stable_errors > 0
    assert record.ladder[0].seconds == 2.5
    # bets are settled at 1 s and 2 s: the stake of the first rung would be whole
    assert record.ladder[0].evidence["errors"] < 0.7


@pytest.mark.parametrize(
    ("users", "rung"), [(0, "95 %"), (4_000, "50 %"), (40_000, "95 %"), (400, "")]
)
def test_the_whole_way_is_judged_on_the_last_rung_with_enough_users(
    served, make_deployment, users, rung
):
    kept = make_deployment(sticky_header="x-user-id", sticky_users=users, hold_back_percent=5)
    record, _ = deploy(kept)
    assert record.outcome == "passed"
    judged = [step.name for step in record.ladder if "whole way" in step.decided_by]
    assert judged == ([rung] if rung else [])


def test_a_ladder_that_is_to_be_walked_whole_is(served, make_deployment):
    served.requests_per_second = 4.0
    record, _ = deploy(seldom(served, make_deployment(ladder="all", timeout_seconds=14_400.0)))
    assert [s.name for s in record.ladder] == ["shadow", "1 %", "5 %", "25 %", "50 %", "95 %"]
