import re

import pytest

from serving.traffic.envoy.stats import ACTIVE_FILTER, COUNTERS_FILTER, active, counters

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
        (COUNTERS_FILTER, "cluster.digits/3/direct.upstream_rq_2xx", False),
        (COUNTERS_FILTER, "cluster.digits/3/direct.upstream_rq_active", False),
        (ACTIVE_FILTER, "cluster.digits/3/direct.upstream_rq_active", True),
        (ACTIVE_FILTER, "cluster.digits/3.upstream_rq_active", True),
        (ACTIVE_FILTER, "cluster.digits/3.upstream_rq_active_overflow", False),
    ],
)
def test_only_what_counts_is_asked_for(pattern, name, is_wanted) -> None:
    assert bool(re.search(pattern, name)) is is_wanted
