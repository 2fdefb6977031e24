"""Asking servers whether they are ready, all of them at once and again and again."""

import http.client
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from serving.traffic.backend import Endpoint, Version

_TIMEOUT_SECONDS = 1.0
_MAX_PARALLEL = 8
_HTTP_OK = 200


class HealthProber:
    """Knows which servers answer `/healthz` with 200."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_MAX_PARALLEL, thread_name_prefix="probe")
        self._ready: frozenset[Version] = frozenset()

    def is_ready(self, version: Version) -> bool:
        """Tell what the last probe found; False before the first."""
        return version in self._ready

    def probe(self, endpoints: Mapping[Version, Endpoint]) -> bool:
        """Ask all of them; True if what is known has changed."""
        before = self._ready
        answers = self._pool.map(lambda item: _is_healthy(*item), endpoints.items())
        self._ready = frozenset(
            version for version, is_healthy in zip(endpoints, answers, strict=True) if is_healthy
        )
        return self._ready != before


def _is_healthy(version: Version, endpoint: Endpoint) -> bool:
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        # a server of another version, or of somebody else, may have got the port
        is_own = answer.getheader("x-slipway-version", str(version[1])) == str(version[1])
        return answer.status == _HTTP_OK and is_own
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
