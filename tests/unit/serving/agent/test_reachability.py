"""What of a plan can be in force, by what Envoys know of its versions."""

from collections.abc import Collection, Mapping

import pytest

from contract.errors import ServiceUnavailableError
from contract.records.traffic import Arm, TrafficPlan
from serving.agent.reachability import Reachability, anywhere
from serving.traffic.backend import Version
from serving.traffic.reach import Reach

CANARY = ("digits", 2)
PLAN = TrafficPlan(
    pipeline="digits",
    generation=7,
    arms=(
        Arm(name="stable", version=1, weight_percent=95),
        Arm(name="canary", version=2, weight_percent=5),
    ),
)


class Envoys:
    """What Envoys say of version 2, and when it is."""

    def __init__(self) -> None:
        self.now, self.is_away = 0.0, False
        self.seen = Reach(1, "Envoy at b")

    def hosts(self, versions: Collection[Version]) -> Mapping[Version, Reach]:
        if self.is_away:
            raise ServiceUnavailableError("no Envoy has asked")
        return dict.fromkeys(versions, self.seen)


@pytest.fixture
def envoys() -> Envoys:
    return Envoys()


@pytest.fixture
def reach(envoys: Envoys) -> Reachability:
    return Reachability(envoys.hosts, lambda: envoys.now)


def test_a_version_gets_no_traffic_before_every_envoy_has_a_healthy_host(envoys, reach) -> None:
    told = list[str]()
    envoys.seen = Reach(0, "Envoy at b")
    assert not reach.are_reached({CANARY}, told)
    assert told == [], "for some seconds that is how it goes"
    envoys.now = 6.0
    assert not reach.are_reached({CANARY}, told)
    assert told == [
        "version 2 gets no traffic yet: Envoy at b has had no healthy host of it for 6 s"
    ]
    envoys.seen = Reach(1, "Envoy at b")
    assert reach.are_reached({CANARY}, told)
    envoys.seen = Reach(0, "Envoy at b")
    assert not reach.are_reached({CANARY}, told)
    assert len(told) == 1, "it begins again"


def test_without_an_answer_nothing_new_gets_traffic_and_nothing_loses_it(envoys, reach) -> None:
    envoys.is_away, told = True, list[str]()
    assert not reach.are_reached({CANARY}, told)
    assert told == ["no Envoy has asked"]
    assert reach.are_reached(set(), told), "nobody is asked about nothing"
    assert reach.reached_part(PLAN, told) == PLAN


def test_a_canary_without_any_host_leaves_its_callers_to_stable(envoys, reach) -> None:
    told = list[str]()
    envoys.seen = Reach(0, "Envoy at b")
    assert reach.reached_part(PLAN, told) == PLAN, "it may be busy"
    envoys.seen = Reach(0, "Envoy at a", lost_at="Envoy at b")
    assert reach.reached_part(PLAN, told) == PLAN, "it may have looked at the wrong moment"
    envoys.seen = Reach(0, "Envoy at b")
    assert reach.reached_part(PLAN, told) == PLAN
    envoys.now, envoys.seen = 5.0, Reach(0, "Envoy at a", lost_at="Envoy at b")
    assert reach.reached_part(PLAN, told) == PLAN, "it begins again"
    envoys.now = 6.0
    left = reach.reached_part(PLAN, told)
    assert [(arm.version, arm.weight_percent) for arm in left.arms] == [(1, 100)]
    assert left.generation == 7
    assert told == [
        "version 2: Envoy at b has no host of it: stable gets its traffic until it has one"
    ]
    assert reach.reached_part(left, told) == left


def test_a_backend_that_does_not_know_hosts_follows_every_plan() -> None:
    reach, told = Reachability(anywhere), list[str]()
    assert reach.are_reached({CANARY}, told)
    assert reach.reached_part(PLAN, told) == PLAN
    assert told == []
