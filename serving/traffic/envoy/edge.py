"""Limits on what callers can cost an Envoy that is open to a network.

Source:
    https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/best_practices/edge, whose figures
    these are unless a comment says otherwise.
"""

from dataclasses import dataclass, replace

from serving.traffic.envoy.documents import TYPE, Document, duration, named

_MIB = 1 << 20
_HEAD_SECONDS = 10.0
_REQUEST_SECONDS = 60.0  # head and body; the model servers' own limit
_IDLE_SECONDS = 900.0
_MAX_HEADERS = 100
_MAX_HEAD_KIB = 60
_MAX_STREAMS = 100  # of one HTTP/2 connection
_STREAM_WINDOW_BYTES = 64 << 10
_CONNECTION_WINDOW_BYTES = _MIB
_SPARE_DESCRIPTORS = 256  # for listeners, the admin port, health checks
_MAX_CALLERS = 10_000  # whose rates are known at a time; the one longest unseen is forgotten


@dataclass(frozen=True)
class EdgeLimits:
    """How much one Envoy gives to all callers together."""

    max_connections: int = 10_000
    max_heap_mib: int = 1024

    def within(self, descriptors: int) -> "EdgeLimits":
        """Return limits for a process that may open so many: a caller can cost two of them."""
        most = max(1, (descriptors - _SPARE_DESCRIPTORS) // 2)
        return replace(self, max_connections=min(self.max_connections, most))


def overload_manager(limits: EdgeLimits) -> Document:
    """Return what Envoy does before it runs out of connections or of memory.

    A connection beyond the limit is closed at once. With little memory left Envoy gives back what
    it holds in reserve, then answers new requests 503, then accepts no connection.
    """
    monitors = f"{TYPE}.extensions.resource_monitors"
    connections = {
        "@type": f"{monitors}.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": limits.max_connections,
    }
    heap = {
        "@type": f"{monitors}.fixed_heap.v3.FixedHeapConfig",
        "max_heap_size_bytes": limits.max_heap_mib * _MIB,
    }
    actions = {"shrink_heap": 0.9, "stop_accepting_requests": 0.95}
    accept = {"name": "envoy.load_shed_points.tcp_listener_accept", **_at_heap(0.98)}
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            named("envoy.resource_monitors.fixed_heap", heap),
            named("envoy.resource_monitors.global_downstream_max_connections", connections),
        ],
        "actions": [
            {"name": f"envoy.overload_actions.{name}", **_at_heap(share)}
            for name, share in actions.items()
        ],
        "loadshed_points": [accept],
    }


def _at_heap(share: float) -> Document:
    monitor = "envoy.resource_monitors.fixed_heap"
    return {"triggers": [{"name": monitor, "threshold": {"value": share}}]}


def connection_rules() -> Document:
    """Return what the connection manager requires of a caller.

    Escaped slashes and underscores in names of headers mean one thing to one server and another
    thing to the next; both are refused.
    """
    return {
        "common_http_protocol_options": {
            "idle_timeout": duration(_IDLE_SECONDS),
            "max_headers_count": _MAX_HEADERS,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "http2_protocol_options": {
            "max_concurrent_streams": _MAX_STREAMS,
            "initial_stream_window_size": _STREAM_WINDOW_BYTES,
            "initial_connection_window_size": _CONNECTION_WINDOW_BYTES,
        },
        "max_request_headers_kb": _MAX_HEAD_KIB,
        "request_headers_timeout": duration(_HEAD_SECONDS),
        "request_timeout": duration(_REQUEST_SECONDS),
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
    }


def rate_limit(requests_per_second: int, has_tokens: bool) -> list[Document]:
    """Return the filter that bounds each caller's requests, none for 0.

    A caller is a token where callers have one, else an address. It may save up one second's
    requests. Each Envoy counts by itself.
    """
    if not requests_per_second:
        return []
    by_token = {"request_headers": {"header_name": "authorization", "descriptor_key": "caller"}}
    by_address: Document = {"remote_address": {}}
    action, key = (by_token, "caller") if has_tokens else (by_address, "remote_address")
    bucket = {
        "max_tokens": requests_per_second,
        "tokens_per_fill": requests_per_second,
        "fill_interval": "1s",
    }
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    config = {
        "@type": f"{TYPE}.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "callers",
        "filter_enabled": always,
        "filter_enforced": always,
        # callers that are not known share this one
        "token_bucket": bucket,
        "always_consume_default_token_bucket": False,
        "rate_limits": [{"actions": [action]}],
        "descriptors": [{"entries": [{"key": key}], "token_bucket": bucket}],  # one each
        "max_dynamic_descriptors": _MAX_CALLERS,
    }
    return [named("envoy.filters.http.local_ratelimit", config)]
