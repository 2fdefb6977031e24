"""What an Envoy is started with: where its configuration comes from, and what it measures."""

from pathlib import Path

from serving.traffic.backend import Endpoint
from serving.traffic.envoy.discovery import AGENT_CLUSTER, discovery_source
from serving.traffic.envoy.documents import TYPE, Document, address, named
from serving.traffic.envoy.edge import EdgeLimits, overload_manager

# Envoy records whole milliseconds, cut off, and counts what lies below a bound: at whole bounds
# that is exact. From 100 ms on its histograms resolve two digits, so the bounds have no more.
LATENCY_BOUNDS_MS = (
    *range(1, 11),
    *(12, 14, 17, 20, 25, 30, 35, 40, 50, 60, 70, 85),
    *(100, 120, 140, 170, 200, 250, 300, 400, 500, 600, 700, 850),
    *(1000, 1200, 1400, 1700, 2000, 2500, 3000, 4000, 5000, 7000, 10000, 20000, 30000, 60000),
)
_STATS_FLUSH = "0.25s"  # counters are live, histograms are merged this often


def bootstrap(
    listeners: Document, clusters: Document, admin: Endpoint | Path, limits: EdgeLimits
) -> Document:
    """Return the bootstrap: two config sources, the admin interface, and limits."""
    return {
        "node": {"id": "slipway", "cluster": "slipway"},
        "admin": _admin(admin),
        "dynamic_resources": {"lds_config": listeners, "cds_config": clusters},
        "overload_manager": overload_manager(limits),
        "stats_flush_interval": _STATS_FLUSH,
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"prefix": "cluster."}, "buckets": list(LATENCY_BOUNDS_MS)}
            ]
        },
    }


def fleet_bootstrap(own: Endpoint, agent: Endpoint, token: str, limits: EdgeLimits) -> Document:
    """Return the bootstrap of one Envoy of many, which asks the agent.

    Args:
        own: Where it shows its counters, and by which the agent knows it.
        agent: Where the agent answers.
        token: What the agent wants to hear.
        limits: What callers may cost it.
    """
    source = discovery_source()
    document = bootstrap(source, source, Endpoint("0.0.0.0", own.port), limits)
    document["node"]["id"] = f"{own.host}:{own.port}"
    document["static_resources"] = {"clusters": [_agent_cluster(agent) | _sending(token)]}
    return document


def _admin(place: Endpoint | Path) -> Document:
    """Return an admin interface that shows counters only; a Unix socket is its owner's.

    Everybody who reaches it could otherwise read tokens in the configuration, and end Envoy.
    """
    if isinstance(place, Path):
        where: Document = {"pipe": {"path": str(place), "mode": 0o600}}
    else:
        where = address(place)
    shown = [{"prefix": "/stats"}, {"exact": "/ready"}]
    # read by the agent also while callers hold all the connections that they may
    return {"address": where, "allow_paths": shown, "ignore_global_conn_limit": True}


def _agent_cluster(agent: Endpoint) -> Document:
    return {
        "name": AGENT_CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": AGENT_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(agent)}}]}],
        },
    }


def _sending(token: str) -> Document:
    """Let every request to a cluster carry the token."""
    filters = f"{TYPE}.extensions.filters.http"
    header = {"header": {"key": "authorization", "value": f"Bearer {token}"}}
    mutation = {
        "@type": f"{filters}.header_mutation.v3.HeaderMutation",
        "mutations": {"request_mutations": [{"append": header}]},
    }
    codec = {"@type": f"{filters}.upstream_codec.v3.UpstreamCodec"}
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http_protocol_options": {}},
                "http_filters": [
                    named("envoy.filters.http.header_mutation", mutation),
                    named("envoy.filters.http.upstream_codec", codec),
                ],
            }
        }
    }
