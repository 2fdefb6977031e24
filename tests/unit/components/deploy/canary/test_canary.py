"""The canary stage against the agent's HTTP API, with simulated traffic behind it."""

import dataclasses

import pytest
from trials import PERSON, weights

from components.deploy.canary.canary import deploy
from components.deploy.plans import Note, on_standby, with_canary, with_champion
from contract.schema.data import HeadConfig


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
    assert walked == [1, 5, 25, 50, 95, 95]  # the last for `promote`, with a longer lease
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


@pytest.mark.parametrize(("shadow_requests", "phase"), [(0, "1 %"), (200, "shadow")])
def test_a_version_that_hangs_on_half_its_requests_never_passes(
    served, make_deployment, shadow_requests, phase
):
    served.of(2).hanging_ratio = 0.5
    hung = make_deployment(shadow_requests=shadow_requests, timeout_seconds=60.0)
    record, _ = deploy(hung)
    assert record.outcome == "inconclusive"
    assert [step.name for step in record.ladder] == [phase]
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
