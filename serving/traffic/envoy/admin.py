"""What one Envoy tells of itself, through its admin interface."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

from contract.errors import ServiceUnavailableError
from serving.traffic.backend import Endpoint

_TIMEOUT_SECONDS = 2.0


class EnvoyAdmin:
    """The admin interface of one Envoy: a port, or on this machine a Unix socket."""

    def __init__(self, place: Endpoint | Path) -> None:
        self.name = str(place) if isinstance(place, Path) else f"{place.host}:{place.port}"
        self.place = place

    def connection(self, timeout_seconds: float) -> http.client.HTTPConnection:
        """Return a connection that is not open yet."""
        if isinstance(self.place, Path):
            return _UnixConnection(self.place, timeout_seconds)
        host, port = self.place.host, self.place.port
        return http.client.HTTPConnection(host, port, timeout=timeout_seconds)

    def is_there(self) -> bool:
        """Tell whether anybody takes connections there."""
        connection = self.connection(_TIMEOUT_SECONDS)
        try:
            connection.connect()
        except OSError:
            return False
        finally:
            connection.close()
        return True

    def is_ready(self) -> bool:
        """Tell whether it serves."""
        try:
            return self._get("/ready").strip() == "LIVE"
        except ServiceUnavailableError:
            return False

    def prometheus(self, pattern: str) -> str:
        """Return the counters whose Envoy names match, in Prometheus' text format.

        Raises:
            ServiceUnavailableError: If it does not answer; so do the others.
        """
        return self._get(f"/stats/prometheus?filter={quote(pattern)}")

    def values(self, pattern: str) -> dict[str, Any]:
        """Return gauges and texts by name, those whose names match."""
        found = json.loads(self._get(f"/stats?filter={quote(pattern)}&format=json"))["stats"]
        return {one["name"]: one["value"] for one in found if "name" in one}

    def _get(self, path: str) -> str:
        connection = self.connection(_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise ServiceUnavailableError(
                f"Envoy's admin interface {self.name} does not answer: {error}"
            ) from error
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path, self._timeout_seconds = path, timeout_seconds

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self._timeout_seconds)
        self.sock.connect(str(self._path))
