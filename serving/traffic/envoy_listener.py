"""Envoy's bootstrap and its one listener, which serves all pipelines."""

from dataclasses import dataclass
from pathlib import Path

from serving.traffic.backend import Endpoint
from serving.traffic.envoy_documents import (
    LISTENER,
    ROUTES,
    TYPE,
    Document,
    address,
    duration,
    file_source,
    named,
)

# Envoy records whole milliseconds, cut off, and counts what lies below a bound: at whole bounds
# that is exact. From 100 ms on its histograms resolve two digits, so the bounds have no more.
LATENCY_BOUNDS_MS = (
    *range(1, 11),
    *(12, 14, 17, 20, 25, 30, 35, 40, 50, 60, 70, 85),
    *(100, 120, 140, 170, 200, 250, 300, 400, 500, 600, 700, 850),
    *(1000, 1200, 1400, 1700, 2000, 2500, 3000, 4000, 5000, 7000, 10000, 20000, 30000, 60000),
)
_STATS_FLUSH = "0.25s"  # counters are live, histograms are merged this often


@dataclass(frozen=True)
class ListenerOptions:
    """How callers reach the data plane."""

    host: str
    port: int
    timeout_seconds: float
    token: str = ""
    certificate: Path | None = None
    private_key: Path | None = None


def bootstrap(folder: Path, admin_port: int) -> Document:
    """Return the bootstrap: admin on loopback, listeners and clusters from files in `folder`."""
    return {
        "node": {"id": "slipway", "cluster": "slipway"},
        "admin": {"address": address(Endpoint("127.0.0.1", admin_port))},
        "dynamic_resources": {
            "lds_config": file_source(folder, "lds.json"),
            "cds_config": file_source(folder, "cds.json"),
        },
        "stats_flush_interval": _STATS_FLUSH,
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"prefix": "cluster."}, "buckets": list(LATENCY_BOUNDS_MS)}
            ]
        },
    }


def listener(folder: Path, options: ListenerOptions) -> Document:
    """Return the one listener of the data plane."""
    chain: Document = {"filters": [named("http_connection_manager", _manager(folder, options))]}
    if options.certificate and options.private_key:
        chain["transport_socket"] = _tls(options.certificate, options.private_key)
    return {
        "@type": f"{TYPE}.config.listener.v3.Listener",
        "name": LISTENER,
        "address": address(Endpoint(options.host, options.port)),
        "filter_chains": [chain],
    }


def _manager(folder: Path, options: ListenerOptions) -> Document:
    kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "@type": f"{TYPE}.{kind}",
        "stat_prefix": LISTENER,
        "rds": {"route_config_name": ROUTES, "config_source": file_source(folder, "rds.json")},
        "http_filters": [_router()],
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
