"""Reading Envoy's own counters, as its admin port gives them in Prometheus' text format."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from serving.traffic.backend import Version, VersionCounters

# What versions are judged by: `<pipeline>/<version>` and `<pipeline>/<version>/shadow`
_JUDGED = r"^cluster\.[a-z0-9_]+/\d+(/shadow)?\."
COUNTERS_FILTER = (
    _JUDGED + r"upstream_rq_(\dxx|time|active|(pending|active)_overflow)$|^server\.uptime$"
)
_UPTIME = "envoy_server_uptime"
_ACTIVE = "envoy_cluster_upstream_rq_active"
# All that a server may still be at: `<pipeline>/<version>/direct`, too.
ACTIVE_FILTER = r"^cluster\.[a-z0-9_]+/\d+(/shadow|/direct)?\.upstream_rq_active$"


def counters(text: str) -> dict[Version, VersionCounters]:
    """Return the counters of every version: those of its callers and of its copies, added.

    Errors are answers with status 5xx, also those that Envoy gave itself for want of an answer;
    client errors those with 4xx. A copy turned away by the shadow's cap was never sent: Envoy
    counts it as a 503, we do not.
    """
    totals: dict[Version, VersionCounters] = defaultdict(VersionCounters)
    buckets: dict[Version, dict[float, int]] = defaultdict(lambda: defaultdict(int))
    for version, is_shadow, sample in _samples(text):
        count, total = int(sample.value), totals[version]
        # the parser gives counters the suffix that OpenMetrics wants of them
        match sample.name.removesuffix("_total").removeprefix("envoy_cluster_upstream_rq_"):
            case "xx":
                kind = sample.labels["envoy_response_code_class"]
                totals[version] = _plus(total, count, count * (kind == "5"), count * (kind == "4"))
            case "pending_overflow" | "active_overflow" if is_shadow:
                totals[version] = _plus(total, -count, -count, 0)
            case "time_bucket":
                buckets[version][float(sample.labels["le"])] += count
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


def _samples(text: str) -> Iterator[tuple[Version, bool, Sample]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.name != _UPTIME else ():
            pipeline, version, *use = sample.labels["envoy_cluster_name"].split("/")
            yield (pipeline, int(version)), use == ["shadow"], sample


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
        latency_bounds_ms=tuple(bounds),
        latency_counts=tuple(buckets[bound] for bound in bounds),
        latency_total=buckets.get(float("inf"), 0),
    )
