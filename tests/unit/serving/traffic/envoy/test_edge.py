"""What Envoy grants strangers: the limits that need no Envoy to be looked at."""

import pytest

from serving.traffic.envoy.edge import EdgeLimits, overload_manager, rate_limit


@pytest.mark.parametrize(
    ("descriptors", "connections"),
    [(1024, 384), (20_000, 9872), (65_536, 10_000), (100, 1)],  # (descriptors - 256) / 2
)
def test_connections_leave_descriptors_for_those_to_the_servers(
    descriptors: int, connections: int
) -> None:
    assert EdgeLimits().within(descriptors).max_connections == connections
    assert EdgeLimits(max_connections=7).within(descriptors).max_connections == min(7, connections)


def test_memory_is_given_back_before_requests_are_refused_and_these_before_connections() -> None:
    made = overload_manager(EdgeLimits(max_heap_mib=2))
    heap = made["resource_monitors"][0]["typed_config"]
    assert heap["max_heap_size_bytes"] == 2 * 1024 * 1024
    steps = [*made["actions"], *made["loadshed_points"]]
    shares = {one["name"]: one["triggers"][0]["threshold"]["value"] for one in steps}
    assert [name.rsplit(".", 1)[1] for name in sorted(shares, key=shares.__getitem__)] == [
        "shrink_heap",
        "stop_accepting_requests",
        "tcp_listener_accept",
    ]


@pytest.mark.parametrize(("has_tokens", "key"), [(True, "caller"), (False, "remote_address")])
def test_each_caller_has_a_bucket_of_its_own(has_tokens: bool, key: str) -> None:
    (made,) = rate_limit(20, has_tokens=has_tokens)
    (descriptor,) = made["typed_config"]["descriptors"]
    assert descriptor["entries"] == [{"key": key}]  # no value: one bucket for each
    assert descriptor["token_bucket"]["max_tokens"] == 20
    assert rate_limit(0, has_tokens=has_tokens) == []
