"""The small parts that all of Envoy's documents are made of, and the names they share."""

import json
from collections.abc import Sequence
from typing import Any, Literal

from contract.storage import digest_bytes
from serving.traffic.backend import Endpoint

Document = dict[str, Any]

LISTENER = "data_plane"
ROUTES = "pipelines"
TYPE = "type.googleapis.com/envoy"

Kind = Literal["listeners", "routes", "clusters"]
Use = Literal["arm", "shadow", "direct", "grpc", "grpc-shadow", "grpc-direct"]
TYPES: dict[Kind, str] = {
    "listeners": f"{TYPE}.config.listener.v3.Listener",
    "routes": f"{TYPE}.config.route.v3.RouteConfiguration",
    "clusters": f"{TYPE}.config.cluster.v3.Cluster",
}


def cluster_name(pipeline: str, version: int, use: Use = "arm") -> str:
    """Return the name under which Envoy keeps a version's endpoint and counters for one use.

    `arm` answers predictions asked of the pipeline, `shadow` copies of them; only these two are
    what a version is judged by. `direct` is the rest: questions about status and metadata, and what
    callers ask of one version by its number. `grpc`, `grpc-shadow` and `grpc-direct` are the same
    for calls of gRPC, at the port for them.
    """
    return f"{pipeline}/{version}" if use == "arm" else f"{pipeline}/{version}/{use}"


def version_of(resources: Sequence[Document]) -> str:
    """Return the version under which documents are published: a digest of their content."""
    return digest_bytes(json.dumps(resources, sort_keys=True).encode())


def discovery_response(kind: Kind, resources: Sequence[Document]) -> str:
    """Return what Envoy is given, as xDS has it."""
    response = {"version_info": version_of(resources), "type_url": TYPES[kind]}
    return json.dumps({**response, "resources": resources}, indent=1)


def address(endpoint: Endpoint) -> Document:
    """Return an endpoint as Envoy writes it."""
    return {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}


def named(name: str, typed_config: Document) -> Document:
    """Return an extension with its configuration."""
    return {"name": name, "typed_config": typed_config}


def duration(seconds: float) -> str:
    """Return a time as protobuf writes it in JSON."""
    return f"{seconds:.3f}s"
