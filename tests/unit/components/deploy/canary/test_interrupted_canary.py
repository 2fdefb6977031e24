"""Canaries whose controller, server, agent or counters are gone for a while, or come back."""

import dataclasses
import datetime
import itertools
import signal

import pytest
from trials import PERSON, killed_state, seldom, weights

from components.deploy.canary.canary import deploy
from components.deploy.canary.state import STATE_FILE, CanaryState
from components.deploy.canary.stopping import StoppedError
from components.deploy.canary.walk import Canary
from components.deploy.deployment import Deployment
from components.deploy.plans import Note, on_standby, with_canary, without_trial
from contract.errors import ConflictError, ServiceUnavailableError
from contract.interrupts import Interrupted
from contract.records.traffic import LadderStep, Withdrawal


class KilledError(Exception):
    """Stands for `kill -9` in the middle of the canary."""


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
    assert [p.canary.weight_percent for p in served.plans[plans:] if p.canary] == [25, 50, 95, 95]


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


def test_ctrl_c_gives_the_traffic_back_at_once_and_not_when_the_lease_is_over(
    served, make_deployment
):
    clock = served.time.clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if served.plan.canary and served.plan.canary.weight_percent == 25:
            raise Interrupted("Ctrl-C")

    told = dataclasses.replace(make_deployment(), clock=dataclasses.replace(clock, sleep=sleep))
    with pytest.raises(Interrupted, match="Ctrl-C"):
        deploy(told)
    assert weights(served.plan) == {1: 100}
    assert served.plan.standby == (2,)


def test_a_trial_that_was_withdrawn_meanwhile_begins_its_rung_again(served, make_deployment):
    deployment = make_deployment()

    def withdraw(world):
        canary = world.plan.canary
        if canary and canary.weight_percent == 25 and not withdrawals:
            withdrawals.append(a_withdrawal(world))
            plan = on_standby(without_trial(world.plan, 2, PERSON), 2, PERSON)
            world.put(plan)
            world.plan = world.plan.model_copy(update={"withdrawn": withdrawals[0]})

    withdrawals: list[Withdrawal] = []
    served.on_observation = withdraw
    record, _ = deploy(deployment)
    assert record.outcome == "passed"
    walked = [plan.canary.weight_percent for plan in served.plans if plan.canary]
    assert walked == [1, 5, 25, 25, 50, 95, 95]
    kinds = [event.kind for event in killed_state(deployment).events]
    assert kinds.count("withdrawn") == 1
    assert served.plan.withdrawn is None


def test_a_trial_of_this_run_that_somebody_else_ended_stays_ended(served, make_deployment):
    """A withdrawal is another's word about this trial, and not about what came after it."""

    def end(world):
        canary = world.plan.canary
        if canary and canary.weight_percent == 25:
            world.put(without_trial(world.plan, 2, PERSON))
            other = a_withdrawal(world).model_copy(update={"author": "run r7"})
            world.plan = world.plan.model_copy(update={"withdrawn": other})

    served.on_observation = end
    record, _ = deploy(make_deployment())
    assert record.outcome == "refused"
    assert "ada changed the traffic plan" in record.reasons[0]


def a_withdrawal(world) -> Withdrawal:
    return Withdrawal(
        version=2,
        weight_percent=25,
        author="run r2",
        by="the serving agent",
        reason="run r2 has been silent for 61 s",
        withdrawn_at=world.time.clock().now(),
    )


def dying(deployment: Deployment, deaths: int):
    """Return what kills the canary's server on its rung of 25 %, with 34 requests under way."""
    killed: list[int] = []

    def observe(world):
        seen, canary = world.counters.get(2), world.plan.canary
        if seen is None:
            return
        changes = {"server": seen.server or "process 0"}
        is_on_rung = canary is not None and canary.weight_percent == 25
        if is_on_rung and killed_state(deployment).is_entered and len(killed) < deaths:
            killed.append(1)
            changes = {
                "server": f"process {len(killed)}",
                "requests": seen.requests + 34,
                "errors": seen.errors + 34,
            }
        world.counters[2] = seen.model_copy(update=changes)

    return observe


def test_a_canary_whose_server_is_killed_is_judged_again_when_it_is_back(served, make_deployment):
    deployment = make_deployment()
    served.on_observation = dying(deployment, 2)
    record, _ = deploy(deployment)
    assert record.outcome == "passed"
    assert record.canary_errors == 0
    walked = [plan.canary.weight_percent if plan.canary else 0 for plan in served.plans[1:]]
    assert walked == [0, 1, 5, 25, 0, 25, 0, 25, 50, 95, 95]  # 0: shadow, and while it was away
    died = [event.words for event in killed_state(deployment).events if event.kind == "died"]
    assert died == [f"the server of version 2 died ({n} of at most 3 times)" for n in (1, 2)]


def test_a_controller_killed_after_a_death_does_not_judge_what_came_of_it(
    served, make_deployment, monkeypatch
):
    def killed(*_):
        raise KilledError

    deployment = make_deployment()
    served.on_observation = dying(deployment, 1)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Canary, "_stand_by", killed)
        deploy(deployment)
    assert killed_state(deployment).canary.errors == 0
    record, _ = deploy(deployment)
    assert (record.outcome, record.canary_errors) == ("passed", 0)
    assert killed_state(deployment).deaths == 1


def test_a_canary_whose_server_keeps_dying_is_rolled_back(served, make_deployment):
    deployment = make_deployment()
    served.on_observation = dying(deployment, 3)
    record, _ = deploy(deployment)
    assert record.outcome == "rolled_back"
    assert "its server died 3 times" in record.reasons[0]
    assert record.ladder[-1].decided_by == "deaths"
    assert weights(served.plan) == {1: 100}


def test_every_plan_of_a_trial_carries_its_lease(served, make_deployment):
    deploy(make_deployment(lease_seconds=90.0))
    trials = [plan for plan in served.plans if plan.trial]
    assert [plan.lease_seconds for plan in trials] == [90.0] * 6 + [900.0]  # until `promote`


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
    assert after.accounts.evidence()["errors"] == pytest.approx(1.0)


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


A_RUNG = LadderStep(
    name="1 %",
    weight_percent=1,
    requests=83,
    errors=9,
    decision="rollback",
    reason="9 errors",
    seconds=1.0,
)
