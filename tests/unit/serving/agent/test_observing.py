"""What an observation tells of requests that the data plane refused for want of a host."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from contract.records.traffic import Arm, TrafficPlan
from serving.agent.disagreement import DisagreementCounter
from serving.agent.observing import Observer
from serving.agent.unreached import UnreachedTeller
from serving.traffic.backend import Version, VersionCounters

DIGITS = ("digits", 3)
NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def seconds(after: float) -> datetime:
    return NOON + timedelta(seconds=after)


def told_since(after: float) -> str:
    since = seconds(after).astimezone()
    refused = "requests were refused with 503, because the data plane knew no host of it"
    return f"version 3: since {since:%H:%M:%S} {refused}"


def test_refusals_are_told_while_they_grow_and_ten_seconds_longer() -> None:
    teller = UnreachedTeller()
    looks = [(0, 7), (5, 7), (6, 9), (12, 12), (15, 12), (21.5, 12), (22, 12), (100, 12), (101, 13)]
    told = [teller.words(DIGITS, count, seconds(after)) for after, count in looks]
    # those before the first look are not told; each time begins at the look before
    assert told[:2] == ["", ""]
    assert told[2:6] == [told_since(5)] * 4
    assert told[6:] == ["", "", told_since(100)]


def test_one_envoy_that_restarts_and_counts_from_zero_refuses_nothing() -> None:
    teller = UnreachedTeller()
    counts = [(0, 7), (1, 0), (2, 0), (3, 1)]
    told = [teller.words(DIGITS, count, seconds(after)) for after, count in counts]
    assert told == ["", "", "", told_since(2)]


class DataPlane:
    """What Envoys have counted so far."""

    def __init__(self) -> None:
        self.unreached = {3: 0, 4: 0}

    def observe(self, pipeline: str = "") -> Mapping[Version, VersionCounters]:
        return {(pipeline, n): VersionCounters(unreached=u) for n, u in self.unreached.items()}


def test_the_version_with_most_traffic_is_told_of(tmp_path: Path) -> None:
    data_plane: Any = DataPlane()
    pairs = DisagreementCounter(tmp_path, lambda _: tmp_path)
    observer = Observer(data_plane, pairs, lambda _: True)
    arms = (
        Arm(name="stable", version=3, weight_percent=90),
        Arm(name="canary", version=4, weight_percent=10),
    )
    plan = TrafficPlan(pipeline="digits", generation=5, arms=arms)
    assert observer.observe(plan, {}, ("other",)).problems == ("other",)
    data_plane.unreached[4] = 20
    assert observer.observe(plan, {}, ()).problems == ()
    data_plane.unreached[3] = 1
    observed = observer.observe(plan, {}, ("other",))
    assert observed.problems[0] == "other"
    assert observed.problems[1].startswith("version 3: since ")
    assert observed.generation == 5
    nothing = observer.observe(TrafficPlan(pipeline="digits"), {}, ())
    assert (nothing.generation, nothing.problems) == (0, ())
