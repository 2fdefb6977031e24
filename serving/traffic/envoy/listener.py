"""Envoy's one listener, which serves all pipelines."""

from dataclasses import dataclass
from pathlib import Path

from serving.traffic.backend import Endpoint
from serving.traffic.envoy.documents import (
    LISTENER,
    ROUTES,
    TYPE,
    TYPES,
    Document,
    address,
    duration,
    named,
)
from serving.traffic.envoy.edge import connection_rules, rate_limit
from serving.traffic.envoy.grpc_statuses import status_filter


@dataclass(frozen=True)
class ListenerOptions:
    """How callers reach the data plane, and with what it reaches the servers.

    Attributes:
        token: What callers must send; empty: nothing.
        requests_per_second: Of each caller; 0: any number.
        server_token: What servers want to hear, so that nobody calls them past the data plane.
    """

    host: str
    port: int
    timeout_seconds: float
    token: str = ""
    server_token: str = ""
    certificate: Path | None = None
    private_key: Path | None = None
    requests_per_second: int = 0


def listener(routes_source: Document, options: ListenerOptions) -> Document:
    """Return the one listener of the data plane; its routes come from where the source says."""
    manager = _manager(routes_source, options)
    chain: Document = {"filters": [named("http_connection_manager", manager)]}
    if options.certificate and options.private_key:
        chain["transport_socket"] = _tls(options.certificate, options.private_key)
    return {
        "@type": TYPES["listeners"],
        "name": LISTENER,
        "address": address(Endpoint(options.host, options.port)),
        "filter_chains": [chain],
    }


def _manager(routes_source: Document, options: ListenerOptions) -> Document:
    kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "@type": f"{TYPE}.{kind}",
        "stat_prefix": LISTENER,
        "rds": {"route_config_name": ROUTES, "config_source": routes_source},
        "http_filters": [
            *rate_limit(options.requests_per_second, has_tokens=bool(options.token)),
            status_filter(),
            _router(),
        ],
        **connection_rules(),
        # A caller's own request id is kept as it is: it joins the logs of the stable and the
        # shadow server.
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": f"{TYPE}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,
            }
        },
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": duration(2 * options.timeout_seconds),
        # What Envoy answers itself reads like what the servers answer.
        "local_reply_config": {"body_format": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}}},
    }


def _router() -> Document:
    return named(
        "router",
        {
            "@type": f"{TYPE}.extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers": True,
        },
    )


def _tls(certificate: Path, private_key: Path) -> Document:
    kind = "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return named(
        "tls",
        {
            "@type": f"{TYPE}.{kind}",
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": str(certificate)},
                        "private_key": {"filename": str(private_key)},
                    }
                ],
            },
        },
    )
