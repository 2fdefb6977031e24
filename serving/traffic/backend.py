"""What a traffic backend is: the one door between TrafficPlan and whatever moves the traffic."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Protocol

from contract.records.traffic import TrafficPlan

Version = tuple[str, int]  # a pipeline's name and the number of one of its versions


@dataclass(frozen=True)
class Endpoint:
    """Where one version answers: by HTTP, and by gRPC where it has a port for that."""

    host: str
    port: int
    grpc_port: int | None = None


@dataclass(frozen=True)
class PipelineTraffic:
    """What the data plane should do for one pipeline.

    `endpoints` holds every version that runs, those without weight too: each has a route of its
    own. Every arm and the shadow of `plan` must be among them.
    """

    plan: TrafficPlan
    endpoints: Mapping[int, Endpoint] = field(default_factory=dict)


@dataclass(frozen=True)
class Capabilities:
    """What a backend can express."""

    weight_step_percent: int
    max_arms: int
    has_shadow: bool


@dataclass(frozen=True)
class VersionCounters:
    """What the data plane counted for one version; cumulative, but for `active`: under way now.

    `errors` are answers with status 5xx, `client_errors` with 4xx, over gRPC those whose status is
    of that kind. `latency_counts[i]` is how many answers took less than `latency_bounds_ms[i]`,
    `latency_total` how many were timed in all. `unreached` were answered by the data plane itself,
    because it knew no host of the version, and the callers of `abandoned` left before the answer;
    both are neither requests nor errors of it.
    """

    requests: int = 0
    errors: int = 0
    latency_bounds_ms: tuple[float, ...] = ()
    latency_counts: tuple[int, ...] = ()
    latency_total: int = 0
    client_errors: int = 0
    active: int = 0
    unreached: int = 0
    abandoned: int = 0

    def __add__(self, other: "VersionCounters") -> "VersionCounters":
        return self._joined(other, operator.add)

    def at_least(self, other: "VersionCounters") -> "VersionCounters":
        """Return each counter, or the other's where that is more; nothing is under way in it."""
        return self._joined(other, max)

    def _joined(
        self, other: "VersionCounters", join: Callable[[int, int], int]
    ) -> "VersionCounters":
        # one without answers yet has no buckets; those of all others are the same
        pairs = zip_longest(self.latency_counts, other.latency_counts, fillvalue=0)
        return VersionCounters(
            requests=join(self.requests, other.requests),
            errors=join(self.errors, other.errors),
            client_errors=join(self.client_errors, other.client_errors),
            unreached=join(self.unreached, other.unreached),
            abandoned=join(self.abandoned, other.abandoned),
            latency_bounds_ms=self.latency_bounds_ms or other.latency_bounds_ms,
            latency_counts=tuple(join(mine, theirs) for mine, theirs in pairs),
            latency_total=join(self.latency_total, other.latency_total),
        )


class TrafficBackend(Protocol):
    """Makes the data plane follow plans, and counts what it sees of them."""

    @property
    def capabilities(self) -> Capabilities:
        """What plans this backend can follow."""
        ...

    def apply(self, traffic: Sequence[PipelineTraffic]) -> None:
        """Make the data plane follow all of this and nothing else; return once it does.

        Idempotent: what is already so costs nothing.

        Raises:
            ServiceUnavailableError: If the data plane does not take it over in time. Callers then
                see the old state or a working state between; apply again.
        """
        ...

    def observe(self, pipeline: str = "") -> Mapping[Version, VersionCounters]:
        """Return the counters by pipeline and version; as they are now, those of a named pipeline.

        A judge asks several times a second, and only about its own.

        Raises:
            ServiceUnavailableError: If the data plane does not answer.
        """
        ...

    def active_requests(self) -> Mapping[Version, int]:
        """Return how many requests are under way, by pipeline and version, of whatever kind."""
        ...
