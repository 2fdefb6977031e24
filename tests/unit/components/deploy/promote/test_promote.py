import dataclasses

import pytest
from rollouts import a_rollout

from components.deploy.canary.canary import deploy
from components.deploy.plans import Note, on_standby, with_canary, with_champion, without_trial
from components.deploy.promote.promote import promote
from contract.errors import ServiceUnavailableError
from contract.records.rollout import Rollout
from contract.records.traffic import Arm, BadVersion, DeployRecord, TrafficPlan

PERSON = Note("ada", "because I can")
OURS = Note("run r2", "")
PASSED = DeployRecord(stage="canary", outcome="passed", version=2, champion_version=1)


@pytest.fixture
def passed(world):
    """Version 2 has come to 100 % as a canary beside version 1."""
    arms = (Arm(name="stable", version=1, weight_percent=100),)
    served = world.put(TrafficPlan(pipeline="digits", arms=arms, author="run r1"))
    world.put(with_canary(served, 2, 100, OURS))
    return world


def test_a_passed_version_becomes_champion_and_the_last_one_stands_by(passed, make_deployment):
    record = promote(make_deployment(), PASSED)
    assert record.outcome == "promoted"
    assert record.stage == "promote"
    assert "in place of version 1" in record.reasons[0]
    assert passed.plan.champion == 2
    assert passed.plan.canary is None
    assert passed.plan.standby == (1,)


def test_a_first_version_is_promoted_over_nothing(world, make_deployment):
    deployment = make_deployment(compared_with=None)
    verdict, _ = deploy(deployment)
    record = promote(deployment, verdict)
    assert record.outcome == "promoted"
    assert "the first version in service" in record.reasons[0]
    assert world.plan.champion == 2


def test_promoting_twice_is_the_same_as_once(passed, make_deployment):
    deployment = make_deployment()
    promote(deployment, PASSED)
    plans = len(passed.plans)
    assert promote(deployment, PASSED).outcome == "promoted"
    assert len(passed.plans) == plans


@pytest.mark.parametrize("outcome", ["rolled_back", "inconclusive", "refused"])
def test_it_refuses_what_did_not_pass_its_canary(passed, make_deployment, outcome):
    verdict = PASSED.model_copy(update={"outcome": outcome})
    record = promote(make_deployment(), verdict)
    assert record.outcome == "refused"
    assert f"did not pass its canary: {outcome}" in record.reasons[0]
    assert passed.plan.champion == 1


def test_it_refuses_an_unblessed_version(passed, make_deployment):
    record = promote(make_deployment(is_blessed=False), PASSED)
    assert record.outcome == "refused"
    assert "not blessed" in record.reasons[0]
    assert passed.plan.champion == 1


def test_it_refuses_a_verdict_on_another_version(passed, make_deployment):
    record = promote(make_deployment(version=3), PASSED)
    assert record.outcome == "refused"
    assert "the canary judged version 2" in record.reasons[0]


def test_it_refuses_a_package_changed_on_storage(passed, make_deployment):
    deployment = make_deployment()
    (deployment.layout.version(2) / "model" / "weights").write_text("other")
    record = promote(deployment, PASSED)
    assert record.outcome == "refused"
    assert "changed on storage" in record.reasons[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plan: with_champion(plan, 3, PERSON), "ada put version 3 in service"),
        (lambda plan: without_trial(plan, 2, PERSON), "ada took version 2 out of service"),
        (
            lambda plan: with_canary(
                on_standby(without_trial(plan, 2, PERSON), 2, PERSON), 4, 5, PERSON
            ),
            "ada started a trial of version 4",
        ),
    ],
)
def test_it_leaves_a_plan_alone_that_somebody_changed(passed, make_deployment, change, words):
    changed = passed.put(change(passed.plan))
    record = promote(make_deployment(), PASSED)
    assert record.outcome == "refused"
    assert words in record.reasons[0]
    assert passed.plan == changed


def test_it_leaves_a_version_alone_that_somebody_rolled_back_from(passed, make_deployment):
    promoted = passed.put(with_champion(passed.plan, 2, OURS))
    mark = BadVersion(version=2, author="ada")
    back = with_champion(promoted, 1, PERSON).model_copy(update={"bad": (mark,)})
    changed = passed.put(on_standby(passed.put(back), 2, PERSON))
    record = promote(make_deployment(), PASSED)
    assert record.outcome == "refused"
    assert "ada rolled back from version 2 since the canary ended" in record.reasons[0]
    assert passed.plan == changed


def test_after_an_approval_it_goes_from_standby_to_all_traffic(passed, make_deployment):
    passed.put(on_standby(without_trial(passed.plan, None, OURS), 2, OURS))
    assert promote(make_deployment(), PASSED).outcome == "promoted"
    assert passed.plan.champion == 2


def test_a_data_plane_that_does_not_follow_is_an_error_to_retry(passed, make_deployment):
    deployment = make_deployment()
    passed.of(2).is_ready = False
    clock = dataclasses.replace(deployment.clock, sleep=lambda _: passed.time.sleep(50.0))
    with pytest.raises(ServiceUnavailableError, match="not taken over plan"):
        promote(dataclasses.replace(deployment, clock=clock), PASSED)


def test_a_version_on_hold_is_promoted_when_a_person_resumes_it(passed, make_deployment):
    passed.hold(100)
    weights: list[int] = []

    def sleep(seconds: float) -> None:
        passed.time.sleep(seconds)
        weights.append(passed.plan.canary.weight_percent)
        if len(weights) == 3:
            passed.release()

    deployment = make_deployment()
    clock = dataclasses.replace(passed.time.clock(), sleep=sleep)
    record = promote(dataclasses.replace(deployment, clock=clock), PASSED)
    assert (weights[:3], record.outcome, passed.plan.champion) == ([100] * 3, "promoted", 2)


def test_the_rollout_ends_as_promoted(passed, make_deployment):
    deployment = make_deployment()
    a_rollout(version=2, state="passed").write(deployment.layout.rollout)
    promote(deployment, PASSED)
    told = Rollout.read(deployment.layout.rollout)
    assert (told.state, told.canary.weight_percent) == ("promoted", 100)
    assert told.events[-1].words == "promoted: version 2 has all traffic, in place of version 1"
