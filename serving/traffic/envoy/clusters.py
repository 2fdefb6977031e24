"""Envoy's clusters: where versions answer, how much at once, and how their health is asked.

A version has three, so that each use has its own counters: `<pipeline>/<version>` for predictions,
`<pipeline>/<version>/shadow` with a cap for their copies, so that a slow shadow can only lose
copies and never piles up, and `<pipeline>/<version>/direct` for what is asked of a version by its
number, and for status and metadata. One that speaks gRPC has the same three at that port.
"""

import ipaddress
from collections.abc import Mapping

from contract.records.traffic import Shadow, TrafficPlan
from serving.traffic.backend import Endpoint, PipelineTraffic
from serving.traffic.envoy.documents import TYPE, TYPES, Document, address, cluster_name, named
from serving.traffic.envoy.grpc_statuses import status_in_http

_MAX_CONCURRENT_REQUESTS = 4096  # per version; Envoy's default of 3 concurrent retries would bite
_CONNECT_TIMEOUT = "1s"
_HEALTH_INTERVAL = "1s"
_DNS_INTERVAL = "1s"
# Below the servers' own keep-alive time: a connection that both ends close at the same moment
# would cost a caller an error.
_UPSTREAM_IDLE_TIMEOUT = "60s"
_HTTP_1: Document = {"explicit_http_config": {"http_protocol_options": {}}}
_HTTP_2: Document = {"explicit_http_config": {"http2_protocol_options": {}}}
_HTTP_HEALTH: Document = {"http_health_check": {"path": "/healthz"}}
_GRPC_HEALTH: Document = {"grpc_health_check": {}}


def clusters(traffic: PipelineTraffic) -> dict[str, Document]:
    """Return the clusters of a pipeline's running versions by name."""
    plan, made = traffic.plan, {}
    for version, endpoint in traffic.endpoints.items():
        name = cluster_name(plan.pipeline, version)
        made[name] = _cluster(name, endpoint, _caller_limits()) | _health_checks()
        direct = cluster_name(plan.pipeline, version, "direct")
        made[direct] = _cluster(direct, endpoint, _caller_limits())  # one asks after its health
        shadow = cluster_name(plan.pipeline, version, "shadow")
        # it stays when the shadow ends, with its last counts
        made[shadow] = _cluster(shadow, endpoint, _shadow_limits(plan, version))
        if endpoint.grpc_port is not None:
            at = Endpoint(endpoint.host, endpoint.grpc_port)
            made |= _of_grpc(plan, version, at)
    return made


def _of_grpc(plan: TrafficPlan, version: int, endpoint: Endpoint) -> dict[str, Document]:
    arm, shadow, direct = (
        cluster_name(plan.pipeline, version, use) for use in ("grpc", "grpc-shadow", "grpc-direct")
    )
    counted = [status_in_http(), _upstream_codec()]
    return {
        arm: _cluster(arm, endpoint, _caller_limits(), _HTTP_2) | _health_checks(_GRPC_HEALTH),
        direct: _cluster(direct, endpoint, _caller_limits(), _HTTP_2),
        shadow: _cluster(
            shadow, endpoint, _shadow_limits(plan, version), {**_HTTP_2, "http_filters": counted}
        ),
    }


def _upstream_codec() -> Document:
    kind = f"{TYPE}.extensions.filters.http.upstream_codec.v3.UpstreamCodec"
    return named("envoy.filters.http.upstream_codec", {"@type": kind})


def _cluster(
    name: str, endpoint: Endpoint, limits: Mapping[str, int], protocol: Document | None = None
) -> Document:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "@type": TYPES["clusters"],
        "name": name,
        **_finding(endpoint),
        "connect_timeout": _CONNECT_TIMEOUT,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(endpoint)}}]}],
        },
        "circuit_breakers": {"thresholds": [{"priority": "DEFAULT", **limits}]},
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "common_http_protocol_options": {"idle_timeout": _UPSTREAM_IDLE_TIMEOUT},
                **(protocol or _HTTP_1),
            }
        },
    }


def _finding(endpoint: Endpoint) -> Document:
    """Say how the hosts are found: a name may stand for several, which come and go."""
    try:
        ipaddress.ip_address(endpoint.host)
    except ValueError:
        return {
            "type": "STRICT_DNS",
            "dns_refresh_rate": _DNS_INTERVAL,
            "dns_failure_refresh_rate": {
                "base_interval": _DNS_INTERVAL,
                "max_interval": _DNS_INTERVAL,
            },
        }
    return {"type": "STATIC"}


def _caller_limits() -> dict[str, int]:
    kinds = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return dict.fromkeys(kinds, _MAX_CONCURRENT_REQUESTS)


def _shadow_limits(plan: TrafficPlan, version: int) -> dict[str, int]:
    is_current = plan.shadow is not None and plan.shadow.version == version
    shadow = plan.shadow if plan.shadow and is_current else Shadow(version=version, percent=0)
    kinds = ("max_connections", "max_pending_requests", "max_requests")
    # no retries: a lost copy has no effect
    return {**dict.fromkeys(kinds, shadow.max_concurrent_requests), "max_retries": 0}


def _health_checks(asked: Document | None = None) -> Document:
    # With one endpoint a version Envoy's panic routing still tries an unhealthy one, which is
    # what we want: there is no other, and the retries wait for it.
    return {
        "health_checks": [
            {
                "timeout": _CONNECT_TIMEOUT,
                "interval": _HEALTH_INTERVAL,
                "no_traffic_interval": _HEALTH_INTERVAL,
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                **(asked or _HTTP_HEALTH),
            }
        ]
    }
