"""What one Envoy tells of itself, through its admin port."""

import http.client
import json
import socket
from typing import Any
from urllib.parse import quote

from contract.errors import ServiceUnavailableError
from serving.traffic.backend import Endpoint

_TIMEOUT_SECONDS = 2.0


class EnvoyAdmin:
    """The admin port of one Envoy, or what of it is let through."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.name = f"{endpoint.host}:{endpoint.port}"
        self.endpoint = endpoint

    def is_there(self) -> bool:
        """Tell whether anybody takes connections on the port."""
        try:
            place = (self.endpoint.host, self.endpoint.port)
            socket.create_connection(place, timeout=_TIMEOUT_SECONDS).close()
        except OSError:
            return False
        return True

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
        host, port = self.endpoint.host, self.endpoint.port
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise ServiceUnavailableError(
                f"Envoy's admin port {self.name} does not answer: {error}"
            ) from error
        finally:
            connection.close()
