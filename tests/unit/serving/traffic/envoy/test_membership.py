"""How far a version is reached: by the poorest cluster of the poorest Envoy."""

import re

import pytest

from serving.traffic.envoy.membership import membership_filter, reach
from serving.traffic.reach import Reach

CANARY = ("digits", 2)


def gauges(arm: int, shadow: int, direct: int, known: int = 3) -> dict[str, int]:
    healthy = {"": arm, "/shadow": shadow, "/direct": direct}
    return {
        **{f"cluster.digits/2{use}.membership_healthy": n for use, n in healthy.items()},
        **{f"cluster.digits/2{use}.membership_total": known for use in healthy},
    }


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (gauges(2, 3, 3), Reach(2, "Envoy at b")),
        (gauges(0, 3, 3), Reach(0, "Envoy at b")),
        (gauges(3, 0, 3), Reach(0, "Envoy at b")),
        (gauges(0, 0, 0, known=0), Reach(0, "Envoy at b", lost_at="Envoy at b")),
        ({}, Reach(0, "Envoy at b")),  # it has only just started
        (gauges(3, 3, 3), Reach(3, "Envoy at a")),
    ],
)
def test_the_poorest_counts(second: dict[str, int], expected: Reach) -> None:
    assert reach([CANARY], {"a": gauges(3, 3, 3), "b": second}) == {CANARY: expected}


def with_grpc(arm: int, shadow: int = 3, direct: int = 3, healthy: int = 3) -> dict[str, int]:
    """Return gauges of an Envoy whose clusters of gRPC know so many hosts."""
    known = {"grpc": arm, "grpc-shadow": shadow, "grpc-direct": direct}
    of_grpc = {f"cluster.digits/2/{use}.membership_total": n for use, n in known.items()}
    health = {f"cluster.digits/2/{use}.membership_healthy": healthy for use in known}
    return gauges(3, 3, 3) | of_grpc | health


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (with_grpc(3), Reach(3, "Envoy at a")),
        (with_grpc(0), Reach(0, "Envoy at b")),  # REST has found them, gRPC not yet
        (with_grpc(3, shadow=1), Reach(1, "Envoy at b")),
        (with_grpc(3, healthy=0), Reach(3, "Envoy at a")),  # its port is closed to this Envoy
        (gauges(3, 3, 3), Reach(0, "Envoy at b")),  # it does not have these clusters yet
    ],
)
def test_the_hosts_of_grpc_must_be_found_too(second: dict[str, int], expected: Reach) -> None:
    assert reach([CANARY], {"a": with_grpc(3), "b": second}) == {CANARY: expected}


def test_without_an_envoy_nothing_is_known() -> None:
    assert reach([CANARY], {}) == {}


@pytest.mark.parametrize(
    ("name", "is_wanted"),
    [
        ("cluster.digits/2.membership_healthy", True),
        ("cluster.digits/2/shadow.membership_total", True),
        ("cluster.digits/2/direct.membership_healthy", True),
        ("cluster.digits/2/grpc.membership_total", True),
        ("cluster.digits/2/grpc-shadow.membership_total", True),
        ("cluster.digits/21.membership_healthy", False),
        ("cluster.digits/2.membership_degraded", False),
        ("cluster.census/7.membership_healthy", True),
    ],
)
def test_only_the_versions_gauges_are_asked_for(name: str, is_wanted: bool) -> None:
    found = re.search(membership_filter([("digits", 2), ("census", 7)]), name)
    assert bool(found) is is_wanted
