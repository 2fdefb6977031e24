"""The canary stage against the agent's HTTP API, with simulated traffic behind it."""

import dataclasses
import datetime
import itertools
import signal

import pytest

from components.deploy.canary.canary import deploy
from components.deploy.canary.state import STATE_FILE, CanaryState
from components.deploy.canary.stopping import StoppedError
from components.deploy.deployment import Deployment
from components.deploy.plans import Note, on_standby, with_canary, with_champion
from contract.errors import ConflictError, ServiceUnavailableError
from contract.records.traffic import Arm, LadderStep, TrafficPlan
from contract.schema.data import HeadConfig

PERSON = Note("ada", "because I can")


class KilledError(Exception):
    """Stands for `kill -9` in the middle of the canary."""


@pytest.fixture
def served(world):
    """Version 1 is in service."""
    arms = (Arm(name="stable", version=1, weight_percent=100),)
    world.put(TrafficPlan(pipeline="digits", arms=arms, author="run r1"))
    return world


def weights(plan: TrafficPlan) -> dict[int, int]:
    return {arm.version: arm.weight_percent for arm in plan.arms}


def test_a_good_canary_walks_shadow_and_every_rung(served, make_deployment):
    record, figures = deploy(make_deployment())
    assert record.outcome == "passed"
    assert [step.name for step in record.ladder] == [
        "shadow",
        "1 %",
        "5 %",
        "25 %",
        "50 %",
        "95 %",
    ]
    assert all(step.decision == "pass" for step in record.ladder)
    walked = [plan.canary.weight_percent for plan in served.plans if plan.canary]
    assert walked == [1, 5, 25, 50, 95]
    assert weights(served.plan) == {1: 5, 2: 95}
    assert figures["canary_requests"] == sum(s.requests for s in record.ladder[1:])
    assert all(step.requests >= 50 for step in record.ladder[1:])


def test_a_canary_that_fails_only_under_load_is_rolled_back_with_its_counts(
    served, make_deployment
):
    def fails_from_25_percent(world):
        canary = world.plan.canary
        world.of(2).error_ratio = 0.3 if canary and canary.weight_percent >= 25 else 0.0

    served.on_observation = fails_from_25_percent
    record, figures = deploy(make_deployment())
    assert record.outcome == "rolled_back"
    assert record.ladder[-1].name == "25 %"
    assert record.ladder[-1].decision == "rollback"
    assert record.canary_errors == record.ladder[-1].errors > 0
    assert f"rolled back after {record.canary_requests:,} canary requests" in record.reasons[0]
    assert weights(served.plan) == {1: 100}
    assert served.plan.versions == {1}
    assert figures["rollback_seconds"] < 2


def test_a_faulty_version_is_caught_in_shadow_before_a_caller_meets_it(served, make_deployment):
    served.of(2).error_ratio = 0.5
    record, _ = deploy(make_deployment())
    assert record.outcome == "rolled_back"
    assert record.canary_requests == 0
    assert "in shadow, before it answered any caller" in record.reasons[0]
    assert not any(plan.canary for plan in served.plans)


def test_a_shadow_that_predicts_something_else_is_rolled_back(served, make_deployment):
    served.of(2).disagreement_ratio = 0.9
    record, _ = deploy(make_deployment(max_disagreement_ratio=0.2))
    assert record.outcome == "rolled_back"
    assert "at most 20.0% may be: disagreement decided" in record.reasons[0]
    assert record.ladder[-1].decided_by == "disagreement"


def test_a_slow_canary_is_rolled_back(served, make_deployment):
    served.of(2).latency_ms = 60.0
    record, _ = deploy(make_deployment(shadow_requests=0))
    assert record.outcome == "rolled_back"
    assert "p95" in record.reasons[0]


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


def test_a_version_that_never_gets_ready_is_inconclusive(served, make_deployment):
    served.of(2).is_ready = False
    record, _ = deploy(make_deployment(timeout_seconds=5.0, shadow_requests=0))
    assert record.outcome == "inconclusive"
    assert "not ready" in record.reasons[0]
    assert record.canary_requests == 0
    assert served.plan.versions == {1}


def test_with_nothing_in_service_it_waits_on_standby_and_says_so(world, make_deployment):
    record, _ = deploy(make_deployment(compared_with=None))
    assert record.outcome == "first"
    assert "nothing was in service to compare version 2 with" in record.reasons[0]
    assert world.plan.arms == ()
    assert world.plan.standby == (2,)


def test_a_first_version_that_never_gets_ready_leaves_standby(world, make_deployment):
    world.of(2).is_ready = False
    record, _ = deploy(make_deployment(compared_with=None, timeout_seconds=5.0))
    assert record.outcome == "inconclusive"
    assert world.plan.versions == frozenset()


def test_it_refuses_when_another_champion_serves_than_bless_compared_with(served, make_deployment):
    record, _ = deploy(make_deployment(version=3, compared_with=2))
    assert record.outcome == "refused"
    assert "compared with version 2, but version 1 is in service" in record.reasons[0]
    assert len(served.plans) == 1


def test_a_kept_version_deployed_again_needs_no_comparison(served, make_deployment):
    deployment = dataclasses.replace(make_deployment(version=3, compared_with=2), bless=None)
    assert deploy(deployment)[0].outcome == "passed"


def test_it_refuses_an_unblessed_version(served, make_deployment):
    record, _ = deploy(make_deployment(is_blessed=False))
    assert record.outcome == "refused"
    assert "not blessed: because" in record.reasons[0]


def test_it_waits_for_another_runs_canary_to_end(served, make_deployment):
    served.put(with_canary(served.plan, 7, 25, Note("run r7", "")))
    start = served.time.seconds

    def ends(_: float) -> None:
        served.time.sleep(1.0)
        if served.time.seconds - start > 20 and served.plan.author == "run r7":
            served.put(with_champion(served.plan, 1, Note("run r7", "rolled back")))

    deployment = make_deployment()
    clock = dataclasses.replace(served.time.clock(), sleep=ends)
    record, _ = deploy(dataclasses.replace(deployment, clock=clock))
    assert record.outcome == "passed"


def test_it_gives_up_waiting_for_another_canary_and_names_it(served, make_deployment):
    served.put(with_canary(served.plan, 7, 25, Note("run r7", "")))
    record, _ = deploy(make_deployment(timeout_seconds=20.0))
    assert record.outcome == "refused"
    assert "version 7 is on trial by run r7" in record.reasons[0]
    assert served.plan.author == "run r7"


def test_a_manual_promotion_in_mid_canary_stops_it_and_stays(served, make_deployment):
    def promoted_by_hand(world):
        if world.plan.canary and world.plan.canary.weight_percent == 5:
            world.put(with_champion(world.plan, 1, PERSON))

    served.on_observation = promoted_by_hand
    record, _ = deploy(make_deployment())
    assert record.outcome == "refused"
    assert "ada changed the traffic plan" in record.reasons[0]
    assert served.plan.author == "ada"


def test_another_version_put_on_standby_does_not_disturb_the_canary(served, make_deployment):
    def standby(world):
        if world.plan.canary and 9 not in world.plan.standby:
            world.put(on_standby(world.plan, 9, PERSON))

    served.on_observation = standby
    record, _ = deploy(make_deployment())
    assert record.outcome == "passed"
    assert 9 in served.plan.standby


def test_counters_that_fall_to_zero_do_not_lose_the_count(served, make_deployment):
    restarts = []

    def restart_envoy(world):
        canary = world.plan.canary
        if canary and canary.weight_percent == 1 and world.counters[2].requests > 230:
            world.counters.clear()
            restarts.append(1)

    served.on_observation = restart_envoy
    record, _ = deploy(make_deployment(min_requests_per_step=100))
    assert restarts
    assert record.outcome == "passed"
    assert all(step.requests >= 100 for step in record.ladder[1:])


def test_a_killed_canary_goes_on_with_its_rung_and_its_counts(served, make_deployment):
    deployment = make_deployment(min_requests_per_step=400)

    def kill(world):
        if (
            world.plan.canary
            and world.plan.canary.weight_percent == 5
            and killed_state(deployment).canary.requests > 200
        ):
            raise KilledError

    clock = served.time.clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        kill(served)

    with pytest.raises(KilledError):
        deploy(dataclasses.replace(deployment, clock=dataclasses.replace(clock, sleep=sleep)))
    before = killed_state(deployment)
    plans = len(served.plans)
    record, _ = deploy(deployment)
    assert record.outcome == "passed"
    assert [s.name for s in record.ladder] == ["shadow", "1 %", "5 %", "25 %", "50 %", "95 %"]
    assert record.ladder[2].requests > before.canary.requests > 200
    assert [p.canary.weight_percent for p in served.plans[plans:] if p.canary] == [25, 50, 95]


def test_a_canary_told_to_end_gives_the_traffic_back_and_a_retry_goes_on(served, make_deployment):
    deployment = make_deployment(min_requests_per_step=400)
    clock = served.time.clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if served.plan.canary and served.plan.canary.weight_percent == 25:
            signal.raise_signal(signal.SIGTERM)

    told = dataclasses.replace(deployment, clock=dataclasses.replace(clock, sleep=sleep))
    with pytest.raises(StoppedError, match="SIGTERM"):
        deploy(told)
    assert weights(served.plan) == {1: 100}
    assert served.plan.standby == (2,)
    before = killed_state(deployment)
    record, _ = deploy(deployment)
    assert record.outcome == "passed"
    assert record.ladder[: len(before.ladder)] == before.ladder
    assert [s.name for s in record.ladder].count("25 %") == 1


def test_an_attempt_that_was_overtaken_leaves_the_plan_alone(served, make_deployment):
    def overtaken() -> None:
        if served.plan.canary:
            raise ConflictError("overtaken by attempt 2")

    with pytest.raises(ConflictError, match="overtaken"):
        deploy(dataclasses.replace(make_deployment(), check_attempt=overtaken))
    assert weights(served.plan) == {1: 99, 2: 1}


def test_a_canary_killed_between_proposal_and_note_adopts_its_own_plan(served, make_deployment):
    deployment = make_deployment(shadow_requests=0)
    state = CanaryState(version=2, champion=1, plan=served.plan)
    state.write(deployment.output / STATE_FILE)
    served.put(with_canary(served.plan, 2, 1, Note("run r2", "1 % of version 2")))
    assert deploy(deployment)[0].outcome == "passed"


def test_a_trial_that_an_older_slipway_began_goes_on(served, make_deployment):
    deployment = make_deployment(shadow_requests=0)
    served.put(with_canary(served.plan, 2, 5, Note("run r2", "")))
    state = CanaryState(version=2, champion=1, plan=served.plan, phase=1, is_entered=True)
    state.write(deployment.output / STATE_FILE)
    record, _ = deploy(deployment)
    assert record.outcome == "passed"
    assert [step.name for step in record.ladder] == ["5 %", "25 %", "50 %", "95 %"]


def test_a_trial_of_an_older_slipway_is_never_moved_past_its_last_rung(served, make_deployment):
    """At so little traffic a new trial would leave out three rungs; this one is on its last."""
    served.requests_per_second = 0.5
    deployment = make_deployment(shadow_requests=0, timeout_seconds=3600.0)
    served.put(with_canary(served.plan, 2, 95, Note("run r2", "")))
    state = CanaryState(version=2, champion=1, plan=served.plan, phase=4, is_entered=True)
    state.write(deployment.output / STATE_FILE)
    record, _ = deploy(seldom(served, deployment))
    assert [step.name for step in record.ladder] == ["95 %"]
    assert record.ladder[0].requests >= 118


def test_a_canary_killed_after_the_decision_still_rolls_back(served, make_deployment):
    deployment = make_deployment(shadow_requests=0)
    served.put(with_canary(served.plan, 2, 1, Note("run r2", "")))
    state = CanaryState(version=2, champion=1, plan=served.plan, phase=1, ending="rolled_back")
    state.model_copy(
        update={"reason": "9 errors", "decided_at": deployment.clock.now(), "ladder": (A_RUNG,)}
    ).write(deployment.output / STATE_FILE)
    record, _ = deploy(deployment)
    assert record.outcome == "rolled_back"
    assert weights(served.plan) == {1: 100}


def test_an_agent_that_restarts_is_waited_for(served, make_deployment):
    def restart(world):
        if world.plan.canary and world.plan.canary.weight_percent == 5 and not restarts:
            restarts.append(1)
            world.unavailable_answers = 3

    restarts: list[int] = []
    served.on_observation = restart
    assert deploy(make_deployment())[0].outcome == "passed"
    assert restarts


def test_an_agent_that_stays_away_is_an_error_to_retry(served, make_deployment):
    served.unavailable_answers = 1000
    with pytest.raises(ServiceUnavailableError, match="no answer within"):
        deploy(make_deployment())


def test_with_approval_stable_has_the_traffic_until_a_person_agrees(served, make_deployment):
    record, _ = deploy(make_deployment(requires_approval=True))
    assert record.outcome == "passed"
    assert weights(served.plan) == {1: 100}
    assert served.plan.standby == (2,)


@pytest.mark.parametrize("error_ratio", [0.0, 0.4])
def test_a_shadow_without_logged_predictions_is_judged_by_its_errors(
    served, make_deployment, error_ratio
):
    deployment = make_deployment()
    serve = deployment.config.serve.model_copy(update={"prediction_log_ratio": 0.0})
    config = deployment.config.model_copy(update={"serve": serve})
    served.of(2).error_ratio = error_ratio
    record, _ = deploy(dataclasses.replace(deployment, config=config))
    assert record.outcome == ("rolled_back" if error_ratio else "passed")
    assert record.ladder[0].name == "shadow"
    assert record.ladder[0].decided_by == (
        "errors" if error_ratio else "errors, client errors, latency, sample"
    )


def test_a_pipeline_that_predicts_numbers_has_nothing_to_compare_in_shadow(served, make_deployment):
    deployment = make_deployment()
    heads = {"price": HeadConfig(task="regression")}
    config = deployment.config.model_copy(update={"heads": heads})
    record, _ = deploy(dataclasses.replace(deployment, config=config))
    assert record.outcome == "passed"
    assert "answers not compared" in record.ladder[0].reason


def test_a_version_that_refuses_every_request_is_rolled_back(served, make_deployment):
    served.of(2).client_error_ratio = 1.0
    record, _ = deploy(make_deployment(shadow_requests=0))
    assert record.outcome == "rolled_back"
    rung = record.ladder[-1]
    assert rung.decided_by == "client errors"
    assert rung.client_errors == rung.requests
    assert rung.evidence["client errors"] >= rung.bounds["client errors"] == 2000.0


def test_a_version_that_hangs_on_half_its_requests_never_passes(served, make_deployment):
    served.of(2).hanging_ratio = 0.5
    record, _ = deploy(make_deployment(shadow_requests=0, timeout_seconds=60.0))
    assert record.outcome == "inconclusive"
    assert [step.name for step in record.ladder] == ["1 %"]
    assert "more under way" in record.reasons[0]


def test_stable_keeps_traffic_to_compare_with_until_the_promotion(served, make_deployment):
    """An incident of all versions, from the last rung on: nobody's past is held against it."""

    def incident(world):
        canary = world.plan.canary
        ratio = 0.3 if canary and canary.weight_percent == 90 else 0.0
        world.of(1).error_ratio = world.of(2).error_ratio = ratio

    served.requests_per_second = 400.0
    served.on_observation = incident
    record, _ = deploy(make_deployment(hold_back_percent=10, timeout_seconds=180.0))
    assert record.ladder[-1].name == "90 %"
    assert record.outcome == "inconclusive"
    assert "stable itself fails" in record.reasons[0]


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


def test_a_ladder_that_is_to_be_walked_whole_is(served, make_deployment):
    served.requests_per_second = 4.0
    record, _ = deploy(seldom(served, make_deployment(ladder="all", timeout_seconds=14_400.0)))
    assert [s.name for s in record.ladder] == ["shadow", "1 %", "5 %", "25 %", "50 %", "95 %"]


def test_a_paused_phase_gets_its_stake_once(served, make_deployment):
    deployment = make_deployment(min_requests_per_step=400)
    clock = served.time.clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if served.plan.canary and served.plan.canary.weight_percent == 25:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(StoppedError):
        deploy(dataclasses.replace(deployment, clock=dataclasses.replace(clock, sleep=sleep)))
    before = killed_state(deployment)
    deploy(deployment)
    after = killed_state(deployment)
    assert (before.stakes_paid, after.stakes_paid) == (4, 6)
    # nobody failed, so no bet on errors was won or lost: all stakes are there, and sum to 1
    assert sum(after.accounts.capital["errors"]) == pytest.approx(1.0)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wall_clock_that_jumps_changes_no_decision_and_no_time(served, make_deployment, hours):
    served.of(2).error_ratio = 0.3
    deployment = make_deployment(shadow_requests=0)
    clock, looks = deployment.clock, itertools.count()

    def now():
        return clock.now() + datetime.timedelta(hours=hours * next(looks))

    jumping = dataclasses.replace(clock, now=now)
    record, figures = deploy(dataclasses.replace(deployment, clock=jumping))
    assert record.outcome == "rolled_back"
    assert [step.name for step in record.ladder] == ["1 %"]
    assert 0.0 <= figures["rollback_seconds"] < 60.0
    assert weights(served.plan) == {1: 100}


@pytest.mark.parametrize("reset_at_percent", [1, 5, 25, 50])
def test_counters_that_reset_on_any_rung_neither_pass_nor_fail_a_canary_early(
    served, make_deployment, reset_at_percent
):
    """Envoy restarts once on each rung; what was counted before stays."""

    def reset(world):
        canary = world.plan.canary
        if canary and canary.weight_percent == reset_at_percent and not done:
            seen = world.counters.get(2)
            if seen is not None and seen.requests > 20:
                world.counters.clear()
                done.append(seen.requests)

    done: list[int] = []
    served.on_observation = reset
    record, _ = deploy(make_deployment(shadow_requests=0))
    assert done
    assert record.outcome == "passed"
    assert all(step.errors == 0 and step.requests >= 118 for step in record.ladder)
    assert all(step.errors <= step.requests for step in record.ladder)


def seldom(world, deployment: Deployment) -> Deployment:
    """Let twenty seconds pass from look to look: hours of traffic in little time."""
    clock = dataclasses.replace(deployment.clock, sleep=lambda _: world.time.sleep(20.0))
    return dataclasses.replace(deployment, clock=clock)


def killed_state(deployment: Deployment) -> CanaryState:
    return CanaryState.read(deployment.output / STATE_FILE)


A_RUNG = LadderStep(
    name="1 %",
    weight_percent=1,
    requests=83,
    errors=9,
    decision="rollback",
    reason="9 errors",
    seconds=1.0,
)
