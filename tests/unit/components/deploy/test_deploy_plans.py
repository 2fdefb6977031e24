from components.deploy.plans import (
    Note,
    is_same_traffic,
    on_standby,
    out_of_service,
    with_canary,
    with_champion,
    with_shadow,
    without_trial,
)
from contract.records.traffic import Arm, Shadow, TrafficPlan

NOTE = Note("run r2", "because")
SERVED = TrafficPlan(
    pipeline="digits",
    generation=7,
    arms=(Arm(name="stable", version=1, weight_percent=100),),
    standby=(5,),
    author="run r1",
)


def weights(plan: TrafficPlan) -> dict[int, int]:
    return {arm.version: arm.weight_percent for arm in plan.arms}


def test_every_plan_keeps_the_generation_and_signs():
    for plan in (
        on_standby(SERVED, 2, NOTE),
        with_shadow(SERVED, Shadow(version=2, percent=100), NOTE),
        with_canary(SERVED, 2, 5, NOTE),
        without_trial(SERVED, 2, NOTE),
        with_champion(SERVED, 2, NOTE),
        out_of_service(SERVED, NOTE),
    ):
        assert (plan.generation, plan.author, plan.reason) == (7, "run r2", "because")


def test_a_change_keeps_by_what_users_keep_their_arm():
    sticky = SERVED.model_copy(update={"sticky_header": "x-user-id"})
    on_trial = with_canary(sticky, 2, 5, NOTE)
    assert on_trial.sticky_header == "x-user-id"
    assert on_standby(on_trial, 9, NOTE).sticky_header == "x-user-id"


def test_a_canary_takes_its_share_from_stable_which_stays_champion():
    assert weights(with_canary(SERVED, 2, 5, NOTE)) == {1: 95, 2: 5}
    all_of_it = with_canary(SERVED, 2, 100, NOTE)
    assert weights(all_of_it) == {1: 0, 2: 100}
    assert all_of_it.champion == 1


def test_a_version_that_gets_traffic_is_no_longer_on_standby():
    waiting = on_standby(SERVED, 2, NOTE)
    assert waiting.standby == (5, 2)
    assert with_canary(waiting, 2, 1, NOTE).standby == (5,)
    assert with_shadow(waiting, Shadow(version=2, percent=10), NOTE).standby == (5,)


def test_a_trial_ends_with_all_traffic_on_stable_and_nothing_else_running():
    trial = with_canary(SERVED, 2, 50, NOTE)
    ended = without_trial(trial, 2, NOTE)
    assert weights(ended) == {1: 100}
    assert ended.versions == {1, 5}
    assert is_same_traffic(ended, SERVED)


def test_promotion_keeps_the_last_champion_ready():
    promoted = with_champion(with_canary(SERVED, 2, 100, NOTE), 2, NOTE)
    assert weights(promoted) == {2: 100}
    assert promoted.standby == (1,)


def test_promoting_the_champion_again_keeps_who_was_before():
    promoted = with_champion(SERVED, 2, NOTE)
    assert with_champion(promoted, 2, NOTE).standby == (1,)


def test_the_first_promotion_leaves_nobody_on_standby():
    nothing = TrafficPlan(pipeline="digits")
    promoted = with_champion(on_standby(nothing, 1, NOTE), 1, NOTE)
    assert weights(promoted) == {1: 100}
    assert promoted.standby == ()


def test_out_of_service_runs_nothing():
    assert out_of_service(with_canary(SERVED, 2, 5, NOTE), NOTE).versions == frozenset()
