import re

import pytest

from serving.traffic.envoy.stats import (
    ACTIVE_FILTER,
    COUNTERS_FILTER,
    active,
    counters,
    counters_filter,
)

# As Envoy 1.40 prints it; callers' cluster and shadow's cluster of two pipelines.
TEXT = """\
# TYPE envoy_cluster_upstream_rq_pending_overflow counter
envoy_cluster_upstream_rq_pending_overflow{envoy_cluster_name="digits/1"} 2
envoy_cluster_upstream_rq_pending_overflow{envoy_cluster_name="digits/3/shadow"} 290
# TYPE envoy_cluster_upstream_rq_active_overflow counter
envoy_cluster_upstream_rq_active_overflow{envoy_cluster_name="digits/3/shadow"} 2
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="digits/1"} 90
envoy_cluster_upstream_rq_xx{envoy_response_code_class="4",envoy_cluster_name="digits/1"} 6
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="digits/1"} 4
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="digits/3"} 1
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="digits/3/shadow"} 8
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="digits/3/shadow"} 293
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="census/1"} 5
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="digits/3",le="1"} 0
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="digits/3",le="2"} 1
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="digits/3",le="+Inf"} 1
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="digits/3/shadow",le="1"} 3
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="digits/3/shadow",le="2"} 7
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="digits/3/shadow",le="+Inf"} 9
"""


def test_answers_of_every_class_count_and_only_5xx_are_errors() -> None:
    seen = counters(TEXT)[("digits", 1)]
    # its overflow stays an error: those were callers
    assert (seen.requests, seen.errors, seen.client_errors) == (100, 4, 6)


def test_a_shadow_adds_up_and_copies_turned_away_count_for_nothing() -> None:
    seen = counters(TEXT)[("digits", 3)]
    assert (seen.requests, seen.errors) == (1 + 8 + 1, 1)
    assert (seen.latency_bounds_ms, seen.latency_counts) == ((1.0, 2.0), (3, 8))
    assert seen.latency_total == 10  # two of them slower than the last bound


def test_what_envoy_refused_for_want_of_a_host_is_no_error_of_the_version() -> None:
    """40 answers of the server, 3 of them 503; 12 copies and 5 callers found no host."""
    text = """\
# TYPE envoy_cluster_upstream_cx_none_healthy counter
envoy_cluster_upstream_cx_none_healthy{envoy_cluster_name="digits/4"} 5
envoy_cluster_upstream_cx_none_healthy{envoy_cluster_name="digits/4/shadow"} 12
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="digits/4"} 37
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="digits/4"} 8
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="digits/4/shadow"} 12
"""
    seen = counters(text)[("digits", 4)]
    assert (seen.requests, seen.errors, seen.unreached) == (40, 3, 17)


def test_pipelines_are_apart() -> None:
    assert counters(TEXT)[("census", 1)].requests == 5
    assert counters("") == {}


def test_active_requests_of_both_clusters_are_added() -> None:
    text = (
        "# TYPE envoy_cluster_upstream_rq_active gauge\n"
        'envoy_cluster_upstream_rq_active{envoy_cluster_name="digits/3"} 2\n'
        'envoy_cluster_upstream_rq_active{envoy_cluster_name="digits/3/shadow"} 5\n'
        'envoy_cluster_upstream_rq_active{envoy_cluster_name="digits/3/direct"} 1\n'
    )
    assert active(text) == {("digits", 3): 8}
    assert active(TEXT) == {}


@pytest.mark.parametrize(
    ("pattern", "name", "is_wanted"),
    [
        (COUNTERS_FILTER, "cluster.digits/3.upstream_rq_5xx", True),
        (COUNTERS_FILTER, "cluster.my_census/12/shadow.upstream_rq_time", True),
        (COUNTERS_FILTER, "cluster.digits/3.upstream_rq_503", False),
        (COUNTERS_FILTER, "cluster.digits/3.internal.upstream_rq_5xx", False),
        (COUNTERS_FILTER, "cluster.digits/3.retry.upstream_rq_5xx", False),
        (COUNTERS_FILTER, "cluster.digits/3.upstream_rq_active", True),
        (COUNTERS_FILTER, "cluster.digits/3/shadow.upstream_cx_none_healthy", True),
        (COUNTERS_FILTER, "cluster.digits/3/direct.upstream_cx_none_healthy", False),
        (COUNTERS_FILTER, "cluster.digits/3/grpc.upstream_rq_tx_reset", True),
        (COUNTERS_FILTER, "cluster.digits/3.upstream_rq_timeout", True),
        (COUNTERS_FILTER, "cluster.digits/3.upstream_rq_cancelled", True),
        (COUNTERS_FILTER, "cluster.digits/3.upstream_cx_destroy_local_with_active_rq", True),
        (COUNTERS_FILTER, "server.uptime", True),
        (counters_filter("digits"), "cluster.digits/3.upstream_rq_5xx", True),
        (counters_filter("digits"), "cluster.digits/3/shadow.upstream_rq_time", True),
        (counters_filter("digits"), "cluster.my_digits/3.upstream_rq_5xx", False),
        (counters_filter("digits"), "cluster.digits_2/3.upstream_rq_5xx", False),
        (counters_filter("digits"), "server.uptime", True),
        (COUNTERS_FILTER, "cluster.digits/3/direct.upstream_rq_2xx", False),
        (COUNTERS_FILTER, "cluster.digits/3/direct.upstream_rq_active", False),
        (ACTIVE_FILTER, "cluster.digits/3/direct.upstream_rq_active", True),
        (ACTIVE_FILTER, "cluster.digits/3.upstream_rq_active", True),
        (ACTIVE_FILTER, "cluster.digits/3.upstream_rq_active_overflow", False),
    ],
)
def test_only_what_counts_is_asked_for(pattern, name, is_wanted) -> None:
    assert bool(re.search(pattern, name)) is is_wanted


GRPC_TEXT = """\
# TYPE envoy_cluster_grpc_0 counter
envoy_cluster_grpc_0{envoy_cluster_name="digits/1/grpc"} 90
# TYPE envoy_cluster_grpc_1 counter
envoy_cluster_grpc_1{envoy_cluster_name="digits/1/grpc"} 7
# TYPE envoy_cluster_grpc_3 counter
envoy_cluster_grpc_3{envoy_cluster_name="digits/1/grpc"} 6
# TYPE envoy_cluster_grpc_13 counter
envoy_cluster_grpc_13{envoy_cluster_name="digits/1/grpc"} 3
# TYPE envoy_cluster_grpc_14 counter
envoy_cluster_grpc_14{envoy_cluster_name="digits/1/grpc"} 5
# TYPE envoy_cluster_grpc_42 counter
envoy_cluster_grpc_42{envoy_cluster_name="digits/1/grpc"} 1
# TYPE envoy_cluster_upstream_cx_none_healthy counter
envoy_cluster_upstream_cx_none_healthy{envoy_cluster_name="digits/1/grpc"} 4
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="digits/1"} 10
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="digits/1/grpc"} 99
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="d/3/grpc-shadow"} 8
envoy_cluster_upstream_rq_xx{envoy_response_code_class="4",envoy_cluster_name="d/3/grpc-shadow"} 2
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="d/3/grpc-shadow"} 1
# TYPE envoy_cluster_upstream_rq_active gauge
envoy_cluster_upstream_rq_active{envoy_cluster_name="digits/1/grpc"} 2
envoy_cluster_upstream_rq_active{envoy_cluster_name="digits/1/grpc-direct"} 3
"""


def test_calls_of_grpc_count_by_their_status_and_not_by_http_200() -> None:
    """Of 105 calls with a status 90 were good, 6 the callers' fault and 9 errors.

    4 of the errors (UNAVAILABLE) are Envoy's own, which knew no host. 7 callers left. 10 answers of
    REST were good.
    """
    seen = counters(GRPC_TEXT)[("digits", 1)]
    assert (seen.requests, seen.errors, seen.client_errors) == (10 + 105 - 4, 9 - 4, 6)
    assert (seen.unreached, seen.abandoned) == (4, 7)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, "client_errors") for status in (3, 5, 6, 7, 8, 9, 10, 11, 12, 16)),
        *((status, "errors") for status in (2, 13, 14, 15, 42)),
        *((status, "abandoned") for status in (1, 4)),
    ],
)
def test_each_status_is_the_fault_of_one_side(status: int, kind: str) -> None:
    text = (
        f"# TYPE envoy_cluster_grpc_{status} counter\n"
        f'envoy_cluster_grpc_{status}{{envoy_cluster_name="digits/1/grpc"}} 5\n'
    )
    seen = counters(text)[("digits", 1)]
    found = {name: getattr(seen, name) for name in ("errors", "client_errors", "abandoned")}
    assert found == dict.fromkeys(found, 0) | {kind: 5}
    assert seen.requests == (0 if kind == "abandoned" else 5)


def test_callers_that_leave_are_told_from_envoys_own_timeouts() -> None:
    """As Envoy 1.40 prints it after a server hung: its timeouts are answered, with 504.

    Over REST 8 callers left, 2 of them before there was a connection, and 3 requests timed out;
    over gRPC 4 left and 1 call timed out. The copies for a shadow have no caller.
    """
    text = """\
# TYPE envoy_cluster_upstream_cx_destroy_local_with_active_rq counter
envoy_cluster_upstream_cx_destroy_local_with_active_rq{envoy_cluster_name="digits/2"} 9
envoy_cluster_upstream_cx_destroy_local_with_active_rq{envoy_cluster_name="digits/2/shadow"} 6
envoy_cluster_upstream_cx_destroy_local_with_active_rq{envoy_cluster_name="digits/2/grpc"} 1
# TYPE envoy_cluster_upstream_rq_cancelled counter
envoy_cluster_upstream_rq_cancelled{envoy_cluster_name="digits/2"} 2
# TYPE envoy_cluster_upstream_rq_timeout counter
envoy_cluster_upstream_rq_timeout{envoy_cluster_name="digits/2"} 3
envoy_cluster_upstream_rq_timeout{envoy_cluster_name="digits/2/grpc"} 1
envoy_cluster_upstream_rq_timeout{envoy_cluster_name="digits/2/shadow"} 6
# TYPE envoy_cluster_upstream_rq_tx_reset counter
envoy_cluster_upstream_rq_tx_reset{envoy_cluster_name="digits/2/grpc"} 5
envoy_cluster_upstream_rq_tx_reset{envoy_cluster_name="digits/2/grpc-shadow"} 7
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="digits/2"} 3
"""
    seen = counters(text)[("digits", 2)]
    assert (seen.abandoned, seen.requests, seen.errors) == (8 + 4, 3, 3)
    early = text.replace('"digits/2"} 9', '"digits/2"} 0').replace('"digits/2/grpc"} 5', '"x/1"} 0')
    assert counters(early)[("digits", 2)].abandoned == 0  # counters read one after the other


def test_what_envoy_tries_again_or_cannot_read_was_not_abandoned() -> None:
    """As Envoy 1.40 prints it: it closes the connection without reading such an answer's body.

    A server that starts again was asked 7 times more over REST and 5 over gRPC, answered 2 requests
    of REST with what is not HTTP, and 3 callers left.
    """
    text = """\
# TYPE envoy_cluster_retry_upstream_rq_completed counter
envoy_cluster_retry_upstream_rq_completed{envoy_cluster_name="digits/2"} 7
envoy_cluster_retry_upstream_rq_completed{envoy_cluster_name="digits/2/grpc"} 5
# TYPE envoy_cluster_upstream_cx_destroy_local_with_active_rq counter
envoy_cluster_upstream_cx_destroy_local_with_active_rq{envoy_cluster_name="digits/2"} 12
# TYPE envoy_cluster_upstream_cx_protocol_error counter
envoy_cluster_upstream_cx_protocol_error{envoy_cluster_name="digits/2"} 2
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="digits/2"} 9
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="digits/2"} 2
"""
    seen = counters(text)[("digits", 2)]
    assert (seen.abandoned, seen.requests, seen.errors) == (3, 11, 2)
    for name in ("retry.upstream_rq_completed", "upstream_cx_protocol_error"):
        assert re.search(counters_filter("digits"), f"cluster.digits/2.{name}"), name


def test_copies_of_calls_count_by_what_was_made_of_their_status() -> None:
    seen = counters(GRPC_TEXT)[("d", 3)]
    assert (seen.requests, seen.errors, seen.client_errors) == (11, 1, 2)


def test_calls_under_way_are_under_way_for_their_version() -> None:
    assert active(GRPC_TEXT) == {("digits", 1): 5}


@pytest.mark.parametrize(
    ("name", "is_judged"),
    [
        ("cluster.digits/1/grpc.grpc.13", True),
        ("cluster.digits/1/grpc.grpc.total", False),
        ("cluster.digits/1/grpc.upstream_rq_time", True),
        ("cluster.digits/1/grpc-shadow.upstream_rq_5xx", True),
        ("cluster.digits/1/grpc-direct.grpc.13", False),
        ("cluster.census/1/grpc.grpc.13", False),
    ],
)
def test_of_grpc_only_what_a_version_is_judged_by_is_read(name: str, is_judged: bool) -> None:
    assert bool(re.search(counters_filter("digits"), name)) is is_judged
