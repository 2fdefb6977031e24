"""The backend for one machine: Envoy, told what to do by files that it watches."""

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from contract.errors import ServiceUnavailableError
from contract.storage import write_atomically
from serving.traffic import envoy_stats
from serving.traffic.backend import Capabilities, PipelineTraffic, Version, VersionCounters
from serving.traffic.envoy_clusters import clusters
from serving.traffic.envoy_documents import LISTENER, ROUTES, Document, discovery_response
from serving.traffic.envoy_listener import ListenerOptions, bootstrap, listener
from serving.traffic.envoy_routes import routes

_ADMIN_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 0.01
_CLUSTERS_TAKEN_OVER = "cluster_manager.cds.version_text"
_ROUTES_TAKEN_OVER = f"http.{LISTENER}.rds.{ROUTES}.version_text"
_WARMING = "cluster_manager.warming_clusters"


def prepare(folder: Path, admin_port: int) -> Path:
    """Write what Envoy needs before it can start and return the bootstrap's path.

    Resource files of earlier are left: a restarted Envoy serves as before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # the routes may hold the callers' token
    for name in ("lds.json", "cds.json"):
        if not (folder / name).exists():
            write_atomically(folder / name, discovery_response([]))
    path = folder / "bootstrap.json"
    write_atomically(path, json.dumps(bootstrap(folder, admin_port), indent=1))
    return path


class EnvoyFiles:
    """A TrafficBackend that writes listeners, routes and clusters for Envoy by atomic rename."""

    capabilities = Capabilities(weight_step_percent=1, max_arms=2, has_shadow=True)

    def __init__(
        self, folder: Path, admin_port: int, options: ListenerOptions, patience_seconds: float = 3.0
    ) -> None:
        self._folder = folder
        self._admin_port = admin_port
        self._options = options
        self._patience_seconds = patience_seconds

    def apply(self, traffic: Sequence[PipelineTraffic]) -> None:
        """See TrafficBackend. Clusters come before the routes that use them and go after."""
        wanted = {name: one for part in traffic for name, one in clusters(part).items()}
        self._publish_clusters({**self._current_clusters(), **wanted})
        wanted_routes = discovery_response([routes(traffic, self._options)])
        self._write("rds.json", wanted_routes)
        self._write("lds.json", discovery_response([listener(self._folder, self._options)]))
        self._wait(_ROUTES_TAKEN_OVER, wanted_routes)
        self._publish_clusters(wanted)

    def observe(self) -> Mapping[Version, VersionCounters]:
        """See TrafficBackend. Copies that the shadow's cap turned away count for nothing."""
        return envoy_stats.counters(self._admin("/stats/prometheus", envoy_stats.COUNTERS_FILTER))

    def active_requests(self) -> Mapping[Version, int]:
        """See TrafficBackend."""
        return envoy_stats.active(self._admin("/stats/prometheus", envoy_stats.ACTIVE_FILTER))

    def _publish_clusters(self, wanted: Mapping[str, Document]) -> None:
        text = discovery_response(wanted[name] for name in sorted(wanted))
        self._write("cds.json", text)
        self._wait(_CLUSTERS_TAKEN_OVER, text)

    def _current_clusters(self) -> dict[str, Document]:
        listed = json.loads((self._folder / "cds.json").read_bytes())["resources"]
        return {one["name"]: one for one in listed}

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        if not path.exists() or path.read_text() != text:
            write_atomically(path, text)

    def _wait(self, stat: str, text: str) -> None:
        """Wait until Envoy says that it has taken over the version of a file."""
        wanted = json.loads(text)["version_info"]
        deadline = time.monotonic() + self._patience_seconds
        while True:
            seen = self._texts()
            if seen.get(stat) == wanted and seen.get(_WARMING, 0) == 0:
                return
            if time.monotonic() > deadline:
                raise ServiceUnavailableError(
                    f"Envoy (admin port {self._admin_port}) has not taken over {stat} within "
                    f"{self._patience_seconds:.0f} s; if it refused the files in {self._folder}, "
                    "its log says why"
                )
            time.sleep(_POLL_SECONDS)

    def _texts(self) -> dict[str, Any]:
        stats = self._admin("/stats", r"version_text$|warming_clusters$", "&format=json")
        return {one["name"]: one["value"] for one in json.loads(stats)["stats"] if "name" in one}

    def _admin(self, path: str, pattern: str, more: str = "") -> str:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._admin_port, timeout=_ADMIN_TIMEOUT_SECONDS
        )
        try:
            connection.request("GET", f"{path}?filter={quote(pattern)}{more}")
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise ServiceUnavailableError(
                f"Envoy's admin port {self._admin_port} does not answer: {error}"
            ) from error
        finally:
            connection.close()
