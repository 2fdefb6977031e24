"""Reading Envoy's own counters, as its admin port gives them in Prometheus' text format."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from serving.traffic.backend import Version, VersionCounters
from serving.traffic.envoy.grpc_statuses import ABANDONED, CLIENT_ERRORS, is_error


def counters_filter(pipeline: str = "") -> str:
    """Return the pattern of what versions are judged by: of one pipeline's, or of all.

    They are in the clusters `<pipeline>/<version>` and `<pipeline>/<version>/shadow`, and in those
    of gRPC.
    """
    judged = rf"^cluster\.{pipeline or '[a-z0-9_]+'}/\d+(/shadow|/grpc|/grpc-shadow)?\."
    requests = r"rq_(\dxx|time|active|(pending|active)_overflow|tx_reset|cancelled|timeout)"
    connections = r"cx_(none_healthy|destroy_local_with_active_rq|protocol_error)"
    counted = rf"upstream_({requests}|{connections})|retry\.upstream_rq_completed"
    return judged + rf"({counted}|grpc\.\d+)$" + r"|^server\.uptime$"


COUNTERS_FILTER = counters_filter()
_UPTIME = "envoy_server_uptime"
_GRPC_STATUS = re.compile(r"envoy_cluster_grpc_(\d+)(?:_total)?")
_SHADOWS = ("shadow", "grpc-shadow")
# What Envoy gave up of its own accord, by the cluster's use: over HTTP/1 it closes the connection,
# over HTTP/2 it resets the stream. What waited for a connection is cancelled over both.
_GIVEN_UP = {
    "": ("cx_destroy_local_with_active_rq", "rq_cancelled"),
    "grpc": ("rq_tx_reset", "rq_cancelled"),
}
# For these it gave up, too, though nobody left. Over HTTP/1 also an answer that it tries again: it
# does not read the body of "loading"; over gRPC that answer has none. And an answer that is not
# HTTP, for which it says 502.
_NOBODY_LEFT = {
    "": ("rq_timeout", "cx_protocol_error", "envoy_cluster_retry_upstream_rq_completed"),
    "grpc": ("rq_timeout",),
}
_ACTIVE = "envoy_cluster_upstream_rq_active"
# All that a server may still be at: `<pipeline>/<version>/direct`, too.
ACTIVE_FILTER = (
    r"^cluster\.[a-z0-9_]+/\d+(/shadow|/direct|/grpc(-shadow|-direct)?)?\.upstream_rq_active$"
)


def counters(text: str) -> dict[Version, VersionCounters]:
    """Return the counters of every version: those of its callers and of its copies, added.

    Errors are answers with status 5xx, also those that Envoy gave itself for want of an answer;
    client errors those with 4xx. Two kinds of requests were never sent to a server, and Envoy
    counts each as a 503: copies turned away by the shadow's cap count for nothing, and those for
    which Envoy knew no host (response flag UH) are `unreached` and nothing else. A call of gRPC is
    counted by its grpc-status, never by HTTP's, which is 200; in a shadow HTTP's was made of it.

    Envoy counts no answer for a caller that leaves. It gives the request up then, as it does after
    its own timeout, which is answered with 504, and for an answer that it tries again: the rest are
    `abandoned`. Copies have no caller.
    """
    totals: dict[Version, VersionCounters] = defaultdict(VersionCounters)
    buckets: dict[Version, dict[float, int]] = defaultdict(lambda: defaultdict(int))
    for version, use, sample in _samples(text):
        count, total, is_shadow = int(sample.value), totals[version], use in _SHADOWS
        if (status := _GRPC_STATUS.fullmatch(sample.name)) is not None:
            totals[version] = _with_status(total, count, int(status[1]))
            continue
        # the parser gives counters the suffix that OpenMetrics wants of them
        match sample.name.removesuffix("_total").removeprefix("envoy_cluster_upstream_"):
            case "cx_none_healthy":
                less = _plus(total, -count, -count, 0)
                totals[version] = replace(less, unreached=total.unreached + count)
            case "rq_xx" if use != "grpc":
                kind = sample.labels["envoy_response_code_class"]
                totals[version] = _plus(total, count, count * (kind == "5"), count * (kind == "4"))
            case "rq_pending_overflow" | "rq_active_overflow" if is_shadow:
                totals[version] = _plus(total, -count, -count, 0)
            case "rq_time_bucket":
                buckets[version][float(sample.labels["le"])] += count
            case kept if kept in _NOBODY_LEFT.get(use, ()):
                totals[version] = replace(total, abandoned=total.abandoned - count)
            case given_up if given_up in _GIVEN_UP.get(use, ()):
                totals[version] = replace(total, abandoned=total.abandoned + count)
    return {version: _with_latency(seen, buckets[version]) for version, seen in totals.items()}


def uptime(text: str) -> int:
    """Return for how many seconds the Envoy has run that printed this."""
    found = (family for family in text_string_to_metric_families(text) if family.name == _UPTIME)
    return next((int(family.samples[0].value) for family in found), 0)


def active(text: str) -> dict[Version, int]:
    """Return how many requests each version has under way, by the clusters in the text."""
    totals: dict[Version, int] = defaultdict(int)
    for version, _, sample in _samples(text):
        if sample.name == _ACTIVE:
            totals[version] += int(sample.value)
    return dict(totals)


def _samples(text: str) -> Iterator[tuple[Version, str, Sample]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.name != _UPTIME else ():
            pipeline, version, *use = sample.labels["envoy_cluster_name"].split("/")
            yield (pipeline, int(version)), "".join(use), sample


def _with_status(total: VersionCounters, count: int, status: int) -> VersionCounters:
    """Add calls that ended with a grpc-status."""
    if status in ABANDONED:
        return replace(total, abandoned=total.abandoned + count)
    return _plus(total, count, count * is_error(status), count * (status in CLIENT_ERRORS))


def _plus(
    total: VersionCounters, requests: int, errors: int, client_errors: int
) -> VersionCounters:
    return replace(
        total,
        requests=total.requests + requests,
        errors=total.errors + errors,
        client_errors=total.client_errors + client_errors,
    )


def _with_latency(seen: VersionCounters, buckets: dict[float, int]) -> VersionCounters:
    bounds = sorted(bound for bound in buckets if bound != float("inf"))
    return replace(
        seen,
        abandoned=max(0, seen.abandoned),  # counters are read one after the other
        latency_bounds_ms=tuple(bounds),
        latency_counts=tuple(buckets[bound] for bound in bounds),
        latency_total=buckets.get(float("inf"), 0),
    )
