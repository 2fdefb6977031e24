"""Asking servers and Envoys whether they are ready: all of them at once, repeatedly."""

import http.client
import ipaddress
import random
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, Literal, TypeVar

from contract.addresses import VERSION_HEADER
from serving.traffic.backend import Endpoint, Version

TIMEOUT_SECONDS = 1.0
_MAX_PARALLEL = 8
_MOST_ADDRESSES = 8  # of one server's replicas; others in the next probe
_HTTP_OK = 200

# `silent`: it takes connections and does not answer. `gone`: nobody listens there.
Answer = Literal["ready", "not ready", "silent", "gone"]
_BEST_FIRST: tuple[Answer, ...] = ("ready", "not ready", "silent", "gone")

Asked = TypeVar("Asked")  # what stands for whoever is asked: a version, an Envoy's address
Place = TypeVar("Place")  # where that is


@dataclass(frozen=True)
class _Known:
    """The last answer, when it came, and since when it is the same.

    `was_ready`: it was ready once; `has_started`: and nobody has ended it since.
    """

    answer: Answer
    at: float
    since: float
    was_ready: bool
    has_started: bool


class HealthProber(Generic[Asked, Place]):
    """Knows who is ready, and since when others are not."""

    def __init__(
        self,
        ask: Callable[[Asked, Place], Answer],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._clock = ask, clock
        self._pool = ThreadPoolExecutor(_MAX_PARALLEL, thread_name_prefix="probe")
        self._known: Mapping[Asked, _Known] = {}

    def is_ready(self, asked: Asked) -> bool:
        """Tell what the last probe found; False before the first."""
        known = self._known.get(asked)
        return known is not None and known.answer == "ready"

    def was_ready(self, asked: Asked) -> bool:
        """Tell whether a server that is there has been ready."""
        known = self._known.get(asked)
        return known is not None and known.was_ready

    def has_started(self, asked: Asked) -> bool:
        """Tell whether a server has been ready since the last time that nobody listened there."""
        known = self._known.get(asked)
        return known is not None and known.has_started

    def silent_seconds(self, asked: Asked) -> float:
        """Return for how long a server has taken connections without an answer; 0 if it answers.

        From the first such probe to the last: while this process does not probe, as on a machine
        that has stood still, nobody knows.
        """
        known = self._known.get(asked)
        if known is None or known.answer != "silent":
            return 0.0
        return known.at - known.since

    def probe(self, endpoints: Mapping[Asked, Place]) -> bool:
        """Ask all of them; True if one has become ready, or is so no longer."""
        before = {asked for asked in self._known if self.is_ready(asked)}
        answers = self._pool.map(lambda item: self._ask(*item), endpoints.items())
        self._known = {
            asked: self._next(asked, answer)
            for asked, answer in zip(endpoints, answers, strict=True)
        }
        return {asked for asked in self._known if self.is_ready(asked)} != before

    def _next(self, asked: Asked, answer: Answer) -> _Known:
        now = self._clock()
        known = self._known.get(asked) or _Known("gone", now, now, False, False)
        is_ready = answer == "ready"
        return _Known(
            answer,
            at=now,
            since=known.since if known.answer == answer else now,
            was_ready=known.was_ready or is_ready,
            has_started=is_ready or (known.has_started and answer != "gone"),
        )


def ask_server(version: Version, endpoint: Endpoint) -> Answer:
    """Ask a model server for its health; one of another version is not ready.

    A name may stand for several replicas, and for some that are still loading: they are all asked
    at once, and the best answer counts.
    """
    try:
        addresses = _addresses(endpoint)
    except OSError:  # nobody knows the name
        return "gone"
    if len(addresses) == 1:
        return _ask_replica(version, endpoint.port, addresses[0])
    with ThreadPoolExecutor(len(addresses), thread_name_prefix="probe-replica") as pool:
        answers = set(pool.map(partial(_ask_replica, version, endpoint.port), addresses))
    return next(answer for answer in _BEST_FIRST if answer in answers)


def _addresses(endpoint: Endpoint) -> list[str]:
    """Return the addresses of an endpoint, at most a few of them.

    Raises:
        OSError: If its host is a name that has none.
    """
    try:
        return [str(ipaddress.ip_address(endpoint.host))]
    except ValueError:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    addresses = sorted({str(address[0]) for *_, address in found})
    return random.sample(addresses, min(len(addresses), _MOST_ADDRESSES))


def _ask_replica(version: Version, port: int, address: str) -> Answer:
    own = str(version[1])

    def is_own(answer: http.client.HTTPResponse) -> bool:
        """Tell it from a server of another version, or of somebody else, who has got the port."""
        return answer.getheader(VERSION_HEADER, own) == own

    connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_SECONDS)
    return answer_over(connection, "/healthz", is_own)


def answer_over(
    connection: http.client.HTTPConnection,
    path: str,
    is_own: Callable[[http.client.HTTPResponse], bool] = lambda _: True,
) -> Answer:
    """Ask for a path over a connection and close it; 200 from whom `is_own` knows is ready."""
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return "ready" if answer.status == _HTTP_OK and is_own(answer) else "not ready"
    except TimeoutError:
        return "silent"
    except (OSError, http.client.HTTPException):
        return "gone"
    finally:
        connection.close()
