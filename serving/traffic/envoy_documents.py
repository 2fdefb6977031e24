"""The small parts that all of Envoy's documents are made of, and the names they share."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contract.storage import digest_bytes
from serving.traffic.backend import Endpoint

Document = dict[str, Any]

LISTENER = "data_plane"
ROUTES = "pipelines"
TYPE = "type.googleapis.com/envoy"


def cluster_name(pipeline: str, version: int, is_shadow: bool = False) -> str:
    """Return the name under which Envoy keeps a version's endpoint and counters."""
    return f"{pipeline}/{version}/shadow" if is_shadow else f"{pipeline}/{version}"


def discovery_response(resources: Iterable[Document]) -> str:
    """Return the text of an xDS file; its version is a digest of its content."""
    listed = list(resources)
    version = digest_bytes(json.dumps(listed, sort_keys=True).encode())
    return json.dumps({"version_info": version, "resources": listed}, indent=1)


def file_source(folder: Path, name: str) -> Document:
    """Return a config source that re-reads a file when something is renamed into its folder."""
    return {
        "resource_api_version": "V3",
        "path_config_source": {
            "path": str(folder / name),
            "watched_directory": {"path": str(folder)},
        },
    }


def address(endpoint: Endpoint) -> Document:
    """Return an endpoint as Envoy writes it."""
    return {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}


def named(name: str, typed_config: Document) -> Document:
    """Return an extension with its configuration."""
    return {"name": name, "typed_config": typed_config}


def duration(seconds: float) -> str:
    """Return a time as protobuf writes it in JSON."""
    return f"{seconds:.3f}s"
