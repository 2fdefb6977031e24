"""A trial whose judge is silent loses its traffic, whatever clocks and processes do."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from rollouts import a_rollout

from contract.errors import ConflictError
from contract.layout import PipelineLayout
from contract.records.access import AgentToken, AgentTokens, Right
from contract.records.rollout import Rollout
from contract.records.traffic import Arm, Shadow, TrafficPlan
from contract.tokens import new_token, token_digest
from serving.agent.access import Access
from serving.agent.leases import TrialLeases, hear
from serving.agent.plans import PlanStore, WithdrawalOrder
from serving.traffic.backend import Capabilities


@dataclass
class Clocks:
    """Both clocks of a machine; the wall clock may jump."""

    monotonic: float = 1000.0
    jumped: float = 0.0

    def pass_by(self, seconds: float) -> None:
        self.monotonic += seconds

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.monotonic - 1000.0 + self.jumped)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def store(tmp_path) -> PlanStore:
    for pipeline in ("digits", "coins"):
        for version in (1, 2, 3):
            folder = PipelineLayout(tmp_path, pipeline).version(version)
            folder.mkdir(parents=True)
            (folder / "package.json").write_text("{}")
    return PlanStore(tmp_path, Capabilities(1, 2, has_shadow=True))


@pytest.fixture
def leases(store, clocks) -> TrialLeases:
    return agent(store, clocks)


def agent(store: PlanStore, clocks: Clocks) -> TrialLeases:
    """Return what an agent that starts now knows."""
    return TrialLeases(store, lambda: clocks.monotonic, clocks.now)


def on_trial(
    store: PlanStore, percent: int = 50, pipeline: str = "digits", version: int = 2
) -> TrafficPlan:
    arms = [Arm(name="stable", version=1, weight_percent=100 - percent)]
    if percent:
        arms.append(Arm(name="canary", version=version, weight_percent=percent))
    plan = TrafficPlan(
        pipeline=pipeline,
        generation=store.current(pipeline).generation,
        arms=tuple(arms),
        shadow=None if percent else Shadow(version=version, percent=100),
        author=f"run r{version}",
        lease_seconds=30.0,
    )
    return store.propose(plan)


def test_a_silent_trial_ends_after_its_lease_and_its_version_stays_ready(
    store, leases, clocks
) -> None:
    on_trial(store)
    assert leases.withdraw_silent() == []
    clocks.pass_by(29.0)
    assert leases.withdraw_silent() == []
    clocks.pass_by(2.0)
    (plan,) = leases.withdraw_silent()
    assert plan == store.current("digits")
    assert plan.arms == (Arm(name="stable", version=1, weight_percent=100),)
    assert (plan.trial, plan.standby, plan.author) == (None, (2,), "the serving agent")
    gone = plan.withdrawn
    assert (gone.version, gone.weight_percent, gone.author) == (2, 50, "run r2")
    assert gone.reason == "run r2 has been silent for 31 s"
    assert leases.withdraw_silent() == []


def test_a_shadow_is_a_trial_too(store, leases, clocks) -> None:
    on_trial(store, percent=0)
    leases.withdraw_silent()
    clocks.pass_by(31.0)
    (plan,) = leases.withdraw_silent()
    assert (plan.shadow, plan.withdrawn.weight_percent) == (None, 0)


def test_each_word_of_the_judge_renews_the_lease_of_its_own_trial(store, leases, clocks) -> None:
    on_trial(store)
    on_trial(store, pipeline="coins")
    for _ in range(5):
        leases.withdraw_silent()
        clocks.pass_by(20.0)
        leases.heard("digits", "run r2")
    withdrawn = store.current("coins").withdrawn
    assert withdrawn is not None
    assert store.current("digits").trial == (2, 50)


def test_another_authors_words_renew_nothing(store, leases, clocks) -> None:
    on_trial(store)
    leases.withdraw_silent()
    clocks.pass_by(31.0)
    leases.heard("digits", "run r7")
    assert len(leases.withdraw_silent()) == 1


def test_a_higher_rung_does_not_begin_the_lease_again(store, leases, clocks) -> None:
    """Who moves the weights calls the agent, which counts by itself."""
    on_trial(store, percent=5)
    leases.withdraw_silent()
    clocks.pass_by(20.0)
    on_trial(store, percent=25)
    leases.withdraw_silent()
    clocks.pass_by(11.0)
    assert len(leases.withdraw_silent()) == 1


def test_a_restarted_agent_counts_on_from_the_records(store, leases, clocks) -> None:
    on_trial(store)
    leases.withdraw_silent()
    clocks.pass_by(25.0)
    successor = agent(store, clocks)
    assert successor.withdraw_silent() == []
    clocks.pass_by(11.0)  # 25 s count as 20: a living judge has 10 s to be heard
    assert len(successor.withdraw_silent()) == 1


@pytest.mark.parametrize(("jump", "seconds"), [(7200.0, 10.0), (-7200.0, 30.0)])
def test_a_wall_clock_that_jumps_costs_a_living_judge_nothing(store, clocks, jump, seconds) -> None:
    on_trial(store)
    clocks.jumped = jump
    leases = agent(store, clocks)
    leases.withdraw_silent()
    clocks.pass_by(seconds - 1.0)
    assert leases.withdraw_silent() == []
    leases.heard("digits", "run r2")
    clocks.pass_by(29.0)
    assert leases.withdraw_silent() == []
    clocks.pass_by(2.0)
    assert len(leases.withdraw_silent()) == 1


def test_a_trial_that_is_over_is_left_alone(store, leases, clocks) -> None:
    on_trial(store)
    leases.withdraw_silent()
    plan = store.current("digits")
    store.propose(
        plan.model_copy(update={"arms": (plan.arms[0].model_copy(update={"weight_percent": 100}),)})
    )
    clocks.pass_by(100.0)
    assert leases.withdraw_silent() == []
    assert store.current("digits").withdrawn is None


def test_a_damaged_plan_of_one_pipeline_does_not_keep_another_on_trial(
    store, leases, clocks
) -> None:
    on_trial(store)
    on_trial(store, pipeline="coins")
    for path in (store.layout("coins").traffic_plan, store.layout("coins").good_traffic_plan):
        path.write_text("{")
    leases.withdraw_silent()
    clocks.pass_by(31.0)
    assert [plan.pipeline for plan in leases.withdraw_silent()] == ["digits"]


def test_the_record_of_the_rollout_says_that_it_stopped_and_why(store, leases, clocks) -> None:
    on_trial(store, percent=5)
    path = store.layout("digits").rollout
    a_rollout(looked_at=clocks.now()).write(path)
    leases.withdraw_silent()
    clocks.pass_by(31.0)
    leases.withdraw_silent()
    rollout = Rollout.read(path)
    assert (rollout.state, rollout.canary.weight_percent) == ("stopped", 0)
    assert "silent for 31 s; a retry of its run continues it" in rollout.reason
    assert rollout.events[-1].kind == "withdrawn"


def test_a_withdrawn_version_makes_room_for_the_next_trial(store, leases, clocks) -> None:
    on_trial(store)
    leases.withdraw_silent()
    clocks.pass_by(31.0)
    (withdrawn,) = leases.withdraw_silent()
    plan = on_trial_again = withdrawn.model_copy(
        update={
            "arms": (
                Arm(name="stable", version=1, weight_percent=95),
                Arm(name="canary", version=3, weight_percent=5),
            ),
            "author": "run r3",
        }
    )
    plan = store.propose(on_trial_again)
    assert (plan.standby, plan.withdrawn) == ((), None)


def test_a_run_that_failed_for_good_is_withdrawn_whole(store) -> None:
    on_trial(store)
    order = WithdrawalOrder("run r2", "Airflow", "the run has failed in 'canary'")
    plan = store.withdraw_for_good("digits", order)
    assert (plan.trial, plan.standby, plan.champion) == (None, (), 1)
    assert plan.withdrawn.by == "Airflow"
    with pytest.raises(ConflictError, match="no trial of 'run r9'"):
        store.withdraw_for_good("digits", WithdrawalOrder("run r9", "Airflow", ""))


def test_what_the_lease_has_left_ready_ends_with_the_run(store, leases, clocks) -> None:
    on_trial(store)
    leases.withdraw_silent()
    clocks.pass_by(31.0)
    leases.withdraw_silent()
    plan = store.withdraw_for_good("digits", WithdrawalOrder("run r2", "Airflow", "failed"))
    assert (plan.standby, plan.withdrawn.by) == ((), "the serving agent")


def test_a_plan_that_changed_meanwhile_is_not_withdrawn(store) -> None:
    seen = on_trial(store, percent=5)
    on_trial(store, percent=25)
    assert store.withdraw(seen, "the serving agent", "silent") is None
    assert store.current("digits").trial == (2, 25)


@pytest.mark.parametrize(("right", "is_heard"), [("propose", True), ("read", False)])
def test_the_author_is_heard_in_every_call_with_a_token_that_may_propose(
    store, leases, clocks, tmp_path, right: Right, is_heard
) -> None:
    file, token = tmp_path / "tokens.json", new_token()
    one = AgentToken(
        name="ci", digest=token_digest(token), rights=(right,), created_at=datetime.now(UTC)
    )
    AgentTokens(tokens=(one,)).write(file)
    app = FastAPI()
    hear(app, leases, Access("owner", file))
    on_trial(store)
    leases.withdraw_silent()
    clocks.pass_by(31.0)
    headers = {"x-slipway-author": "run%20r2", "authorization": f"Bearer {token}"}
    TestClient(app).get("/v1/pipelines/digits/plan", headers=headers)
    assert (leases.withdraw_silent() == []) == is_heard
