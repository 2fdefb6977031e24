"""What is told of a trial while it is under way, and what a person's pause does to it."""

import dataclasses
import math
import signal

import pytest

from components.deploy.canary.canary import deploy
from components.deploy.canary.report import is_held, with_event
from components.deploy.canary.stopping import StoppedError
from components.deploy.deployment import Deployment
from components.deploy.plans import Note, with_champion
from contract.records.rollout import MOST_EVENTS, Rollout, RolloutEvent

# A rung takes 2 s, which are eight looks.
SLOWLY = {"shadow_requests": 0, "ladder_percent": (5, 50, 100)}


@pytest.fixture
def served(served):
    """Version 1 is in service, at 1,000 requests a second."""
    served.requests_per_second = 1000.0
    return served


class KilledError(Exception):
    """Stands for `kill -9`."""


class Watcher:
    """Acts between two looks, and keeps what was told at each of them."""

    def __init__(self, world, act=lambda _: None) -> None:
        self._world, self._act = world, act
        self.told: list[Rollout] = []

    def attached(self, deployment: Deployment) -> Deployment:
        clock = deployment.clock

        def sleep(seconds: float) -> None:
            clock.sleep(seconds)
            if deployment.layout.rollout.exists():
                self.told.append(Rollout.read(deployment.layout.rollout))
                self._act(self.told[-1])

        return dataclasses.replace(deployment, clock=dataclasses.replace(clock, sleep=sleep))

    def at(self, phase: str) -> list[Rollout]:
        return [told for told in self.told if told.phase == phase]


def kinds(rollout: Rollout) -> list[tuple[str, int]]:
    return [(event.kind, event.weight_percent) for event in rollout.events]


def test_every_look_is_told_with_weights_counts_and_each_test(served, make_deployment):
    watcher = Watcher(served)
    assert deploy(watcher.attached(make_deployment(**SLOWLY)))[0].outcome == "passed"
    told = watcher.at("5 %")[-1]
    assert (told.version, told.champion, told.author) == (2, 1, "run r2")
    assert (told.canary.weight_percent, told.stable.weight_percent) == (5, 95)
    assert told.weights_percent == (5, 50, 95)
    assert [test.name for test in told.tests] == [
        *("errors", "client errors", "p95", "p99"),
        *("sample", "time"),
    ]
    errors = told.tests[0]
    assert (errors.canary_events, errors.stable_events) == (
        told.canary.requests,
        told.stable.requests,
    )
    # by hand: 1/(0.58 % of alpha) and 1/(80 % of beta); each clean request is 0.99/0.95 likelier
    assert errors.fails_at == pytest.approx(172.4)
    assert errors.passes_at == pytest.approx(125.0)
    few = next(t for t in watcher.at("5 %") if 0 < t.canary.requests < 118)
    clean = (0.99 / 0.95) ** few.canary.requests
    assert few.tests[0].in_favour == pytest.approx(clean, rel=1e-3)
    needed = math.ceil(math.log(125.0) / math.log(0.99 / 0.95))
    assert few.tests[0].missing == needed - few.canary.requests


def test_the_time_to_a_decision_comes_from_the_rate_so_far(served, make_deployment):
    watcher = Watcher(served)
    deploy(watcher.attached(make_deployment(**SLOWLY)))
    told = next(t for t in watcher.at("5 %") if t.seconds >= 1)
    # errors need 118 clean requests; the least time of the rung is 2 s
    by_requests = (118 - told.canary.requests) * told.seconds / told.canary.requests
    expected = max(by_requests, 2.0 - told.seconds)
    assert told.seconds_to_decision == pytest.approx(expected, abs=0.1)
    # two rungs more, of at least 2 s each
    assert told.seconds_to_decision is not None
    assert told.seconds_to_end is not None
    assert told.seconds_to_end >= told.seconds_to_decision + 4.0


def test_without_traffic_no_time_is_promised(served, make_deployment):
    served.requests_per_second = 0.0
    watcher = Watcher(served)
    deploy(watcher.attached(make_deployment(timeout_seconds=10.0)))
    assert {told.seconds_to_decision for told in watcher.told} == {None}
    assert {told.seconds_to_end for told in watcher.told} == {None}


@pytest.mark.parametrize(
    ("error_ratio", "options", "state", "percent"),
    [
        (0.0, {}, "passed", 95),
        (0.0, {"requires_approval": True}, "waiting for approval", 0),
        (0.5, {}, "rolled back", 0),
    ],
)
def test_the_end_is_told_with_the_share_that_the_version_has_then(
    served, make_deployment, error_ratio, options, state, percent
):
    served.of(2).error_ratio = error_ratio
    deployment = make_deployment(shadow_requests=0, **options)
    deploy(deployment)
    told = Rollout.read(deployment.layout.rollout)
    assert (told.state, told.canary.weight_percent, told.is_over) == (state, percent, True)
    assert kinds(told)[-1] == ("ended", percent)


def test_the_events_are_the_way_that_was_gone(served, make_deployment):
    deployment = make_deployment(shadow_requests=0, ladder_percent=(50, 100))
    deploy(deployment)
    assert kinds(Rollout.read(deployment.layout.rollout)) == [
        *(("entered", 50), ("passed", 50), ("entered", 95), ("passed", 95), ("ended", 95))
    ]


def test_somebody_who_takes_the_traffic_over_is_named(served, make_deployment):
    def promoted_by_hand(world):
        if world.plan.canary and world.plan.canary.weight_percent == 5:
            world.put(with_champion(world.plan, 2, Note("ada", "I know it is good")))

    served.on_observation = promoted_by_hand
    deployment = make_deployment()
    assert deploy(deployment)[0].outcome == "refused"
    told = Rollout.read(deployment.layout.rollout)
    assert (told.state, told.canary.weight_percent) == ("interrupted", 100)
    assert told.reason == "ada changed the traffic: I know it is good"


def test_the_trial_says_by_what_users_keep_their_arm(served, make_deployment):
    deploy(make_deployment(sticky_header="x-user-id", **SLOWLY))
    on_trial = [plan for plan in served.plans if plan.canary]
    assert {plan.sticky_header for plan in on_trial} == {"x-user-id"}
    # the next version does not want it
    served.put(with_champion(served.plan, 1, Note("ada", "")))
    deploy(make_deployment(version=3, **SLOWLY))
    assert {plan.sticky_header for plan in served.plans if plan.author == "run r3"} == {""}


# --- pauses -------------------------------------------------------------------------------------


def test_a_paused_trial_keeps_its_rung_until_it_is_resumed(served, make_deployment):
    def act(rollout: Rollout) -> None:
        if rollout.phase == "5 %" and not is_held(rollout.events) and len(paused) < 1:
            served.hold(5, "the team is at lunch")
            paused.append(served.time.seconds)
        if paused and served.plan.hold and served.time.seconds - paused[0] > 12:
            served.release()

    paused: list[float] = []
    watcher = Watcher(served, act)
    record, _ = deploy(
        watcher.attached(make_deployment(timeout_seconds=10.0, ladder="all", **SLOWLY))
    )
    assert record.outcome == "passed"  # twelve seconds on hold did not spend the ten that it has
    held = [told for told in watcher.told if told.state == "paused"]
    assert {told.canary.weight_percent for told in held} == {5}
    assert all(test.has_agreed is not False for test in held[-1].tests)  # it would have passed
    assert {told.decision for told in held} == {"continue"}
    assert "paused by ada" in held[-1].reason
    assert ("paused", 5) in kinds(held[-1])
    assert held[-1].events[-1].words == "by ada: the team is at lunch"
    assert kinds(watcher.told[-1]).count(("resumed", 5)) == 1


def test_a_shadow_is_held_before_any_caller_meets_the_version(served, make_deployment):
    def act(rollout: Rollout) -> None:
        if not looks:
            served.hold(0)
        looks.append(rollout.phase)
        if len(looks) == 30:
            assert served.plan.trial == (2, 0)
            served.release()

    looks: list[str] = []
    options = {"ladder_percent": (50, 100), "max_disagreement_ratio": 0.5}
    record, _ = deploy(Watcher(served, act).attached(make_deployment(**options)))
    assert set(looks[:30]) == {"shadow"}  # it takes eight looks where nobody pauses it
    assert [step.name for step in record.ladder] == ["shadow", "50 %", "95 %"]
    assert record.outcome == "passed"


def test_failing_evidence_rolls_a_paused_trial_back(served, make_deployment):
    def act(rollout: Rollout) -> None:
        if rollout.phase == "5 %" and served.plan.hold is None:
            served.hold(5)
        if rollout.state == "paused":
            served.of(2).error_ratio = 0.5

    deployment = make_deployment(**SLOWLY)
    record, _ = deploy(Watcher(served, act).attached(deployment))
    assert record.outcome == "rolled_back"
    assert record.ladder[-1].name == "5 %"
    assert served.plan.hold is None
    assert served.plan.versions == {1}


def test_a_pause_outlives_its_controller(served, make_deployment):
    def act(rollout: Rollout) -> None:
        if rollout.phase == "5 %" and served.plan.hold is None:
            served.hold(5)
        if rollout.state == "paused":
            raise KilledError

    deployment = make_deployment(**SLOWLY)
    with pytest.raises(KilledError):
        deploy(Watcher(served, act).attached(deployment))
    seen: list[Rollout] = []

    def later(rollout: Rollout) -> None:
        seen.append(rollout)
        if len(seen) == 50:
            served.release()

    record, _ = deploy(Watcher(served, later).attached(deployment))
    assert record.outcome == "passed"
    assert {told.phase for told in seen[:50]} == {"5 %"}
    assert kinds(seen[49]).count(("paused", 5)) == 1


def test_a_pause_outlives_a_controller_that_was_asked_to_end(served, make_deployment):
    """The traffic goes back to stable meanwhile; a retry takes up the rung that was held."""

    def act(rollout: Rollout) -> None:
        if rollout.phase == "5 %" and served.plan.hold is None:
            served.hold(5)
        if rollout.state == "paused":
            signal.raise_signal(signal.SIGTERM)

    deployment = make_deployment(**SLOWLY)
    with pytest.raises(StoppedError):
        deploy(Watcher(served, act).attached(deployment))
    assert (served.plan.trial, served.plan.hold.weight_percent) == (None, 5)
    assert Rollout.read(deployment.layout.rollout).state == "stopped"
    weights: list[int] = []

    def later(rollout: Rollout) -> None:
        weights.append(rollout.canary.weight_percent)
        if len(weights) == 40:
            served.release()

    record, _ = deploy(Watcher(served, later).attached(deployment))
    assert record.outcome == "passed"
    assert set(weights[1:40]) == {5}


def test_a_pause_that_comes_with_the_decision_keeps_the_weights(served, make_deployment):
    """It is stored after the rung has passed and before the next one's plan is proposed."""

    def pause_first(world):
        if world.plan.canary and world.plan.canary.weight_percent == 5 and not raced:
            raced.append(1)
            world.hold(5)

    raced: list[int] = []
    served.before_proposal = pause_first
    weights: list[int] = []

    def later(rollout: Rollout) -> None:
        if raced:
            weights.append(served.plan.canary.weight_percent)
        if len(weights) == 30:
            served.release()

    record, _ = deploy(Watcher(served, later).attached(make_deployment(**SLOWLY)))
    assert record.outcome == "passed"
    assert set(weights[:30]) == {5}
    assert [step.name for step in record.ladder] == ["5 %", "50 %", "95 %"]


def test_of_very_many_events_the_first_and_the_latest_are_kept(served):
    now = served.time.clock().now()
    events: tuple[RolloutEvent, ...] = ()
    for number in range(MOST_EVENTS + 50):
        event = RolloutEvent(at=now, kind="entered", phase=str(number), weight_percent=1)
        events = with_event(events, event)
    assert len(events) == MOST_EVENTS
    assert (events[0].phase, events[1].phase, events[-1].phase) == ("0", "51", "249")
