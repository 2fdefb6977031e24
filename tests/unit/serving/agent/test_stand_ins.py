"""Who answers for a champion that cannot, and for how long."""

from collections.abc import Callable

import pytest

from contract.records.traffic import Arm, BadVersion, ChampionChange, TrafficPlan
from serving.agent.stand_ins import StandIns


class Health:
    """Which servers are ready, as the prober would know it."""

    def __init__(self) -> None:
        self.ready: set[int] = set()
        self.were_ready: set[int] = set()

    def is_ready(self, version: tuple[str, int]) -> bool:
        return version[1] in self.ready

    def was_ready(self, version: tuple[str, int]) -> bool:
        return version[1] in self.were_ready

    def set(self, *ready: int) -> None:
        self.ready = {*ready}
        self.were_ready |= self.ready


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def make(tmp_path, health, now) -> Callable[[], StandIns]:
    """Return a function that starts an agent."""
    return lambda: StandIns(tmp_path, health, lambda: now[0])


def plan(champion: int = 2, standby: tuple[int, ...] = (1,), **more) -> TrafficPlan:
    changes = tuple(ChampionChange(version=v) for v in range(1, champion + 1))
    arms = (Arm(name="stable", version=champion, weight_percent=100),)
    return TrafficPlan(pipeline="digits", arms=arms, standby=standby, champions=changes, **more)


def answering(stand_ins: StandIns, of: TrafficPlan, problem: str = "") -> int | None:
    found = stand_ins.find(of, problem)
    return found.version if found else of.champion


def test_a_champion_that_answers_keeps_its_traffic(make, health, now) -> None:
    stand_ins = make()
    health.set(1, 2)
    for _ in range(5):
        assert stand_ins.find(plan(), "") is None
        now[0] += 10.0


@pytest.mark.parametrize(
    ("was_ready", "problem", "patience"),
    [(True, "", 3.0), (False, "it ended", 5.0), (False, "", 30.0)],
)
def test_one_that_does_not_is_waited_for_by_what_is_known(
    make, health, now, was_ready, problem, patience
) -> None:
    stand_ins = make()
    health.set(1, 2) if was_ready else health.set(1)
    health.set(1)
    assert answering(stand_ins, plan(), problem) == 2
    now[0] += patience - 0.1
    assert answering(stand_ins, plan(), problem) == 2
    now[0] += 0.2
    found = stand_ins.find(plan(), problem)
    assert found is not None
    assert found.version == 1
    assert found.in_words.startswith(
        "version 2, the champion, does not answer; version 1 answers in its"
    )


def fail(stand_ins: StandIns, health: Health, now: list[float], of: TrafficPlan) -> int | None:
    """Let the champion be ready, then gone for four seconds; return who answers then."""
    health.set(*of.versions)
    stand_ins.find(of, "")
    health.set(*of.versions - {of.champion})
    stand_ins.find(of, "")
    now[0] += 4.0
    return answering(stand_ins, of)


def test_the_champion_gets_its_traffic_back_and_later_after_a_second_failure(
    make, health, now
) -> None:
    stand_ins = make()
    for seconds in (2.0, 60.0):
        assert fail(stand_ins, health, now, plan()) == 1
        health.set(1, 2)
        assert answering(stand_ins, plan()) == 1
        now[0] += seconds - 0.1
        assert answering(stand_ins, plan()) == 1
        now[0] += 0.2
        assert stand_ins.find(plan(), "") is None


def test_a_restarted_agent_knows_who_stands_in(make, health, now) -> None:
    fail(make(), health, now, plan())
    assert answering(make(), plan()) == 1


def test_a_new_champion_is_not_stood_in_for_by_the_word_about_another(make, health, now) -> None:
    stand_ins = make()
    fail(stand_ins, health, now, plan())
    health.set(1, 3)
    assert answering(stand_ins, plan(champion=3, standby=(1,))) == 3


@pytest.mark.parametrize(
    "of",
    [
        plan(standby=()),
        plan(standby=(3,)),  # a version that waits for its approval
        plan(bad=(BadVersion(version=1),), champion=1, standby=(2,)),
    ],
)
def test_only_an_earlier_champion_on_standby_stands_in(make, health, now, of) -> None:
    assert fail(make(), health, now, of) == of.champion


def test_where_nobody_is_ready_the_champion_keeps_its_traffic(make, health, now) -> None:
    stand_ins = make()
    health.set(2)
    stand_ins.find(plan(), "")
    health.set()
    stand_ins.find(plan(), "")
    now[0] += 100.0
    assert stand_ins.find(plan(), "") is None
